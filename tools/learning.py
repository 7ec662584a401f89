"""How far each round carries its weights and which signs it keeps, beside its lead over a reinit.

python -m tools.learning --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

shared.define(*shared.OUTPUT, "other_run", "labels", about={"other_run": shared.BESIDE})


def main(_: object) -> None:
    groups, output = shared.groups(), shared.output()
    from lottery_tf.analysis import learning

    rows = learning.report_learning(groups, output)
    if len(groups) == 2 and not any("lead" in row for row in rows):
        print("No lead: no run of --other_run has the seeds of one of --run_dir.")
    tables.show([{"lead": float("nan")} | row for row in rows], learning.COLUMNS)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
