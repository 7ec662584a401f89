"""Histograms of surviving weights, of one run or of two beside one another (Figs. 5, 19, 22).

python -m tools.histograms --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from absl import flags

from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

flags.DEFINE_integer("bins", 60, "Bins of each histogram.")
ABOUT = {
    "other_run": shared.BESIDE,
    "at_rounds": "Rounds whose trained weights are counted, with commas. Default: 10; of a shorter "
    "run the last.",
}
shared.define(*shared.OUTPUT, "other_run", "labels", "at_rounds", about=ABOUT)


def main(_: object) -> None:
    groups, output = shared.groups(), shared.output()
    from lottery_tf.analysis import histograms

    options = shared.values("at_rounds", "bins")
    rows = histograms.report_histograms(groups, output, **options)
    tables.show(rows, histograms.COLUMNS)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
