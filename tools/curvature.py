"""The largest eigenvalue of the Hessian of the training loss at the ends of rounds.

python -m tools.curvature --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from absl import flags

from lottery_tf.analysis import curvature
from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

EXAMPLES = "Training examples, from the first one, whose mean loss it is of."
flags.DEFINE_integer("examples", curvature.EXAMPLES, EXAMPLES)
ABOUT = {
    "other_run": shared.BESIDE,
    "at_rounds": "Finished rounds to measure, with commas. Default: all.",
}
shared.define(*shared.OUTPUT, "labels", *ABOUT, *shared.COMPUTING, about=ABOUT)


def main(_: object) -> None:
    groups, output = shared.groups(), shared.output()
    rows = curvature.report_curvature(
        groups,
        output,
        **shared.values("at_rounds", "examples"),
        computing=shared.computing(),
    )
    tables.show(rows, curvature.COLUMNS)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
