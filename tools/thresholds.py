"""Pruning thresholds against density, of one run or of two beside one another (Fig. 6).

python -m tools.thresholds --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

shared.define(*shared.OUTPUT, "other_run", "labels", about={"other_run": shared.BESIDE})


def main(_: object) -> None:
    groups, output = shared.groups(), shared.output()
    from lottery_tf.analysis import thresholds

    tables.show(thresholds.report_thresholds(groups, output), thresholds.COLUMNS)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
