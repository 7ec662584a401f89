"""Error and loss along the lines between the networks of rounds (Figs. 8, 20, 23).

python -m tools.barriers --run_dir=runs/lenet
"""

from absl import flags

from lottery_tf.analysis import barriers
from lottery_tf.analysis.runs import select_rounds
from lottery_tf.config import command
from lottery_tf.output import tables

from . import shared

PAIRS = flags.DEFINE_list("pairs", ["successive"], "successive, or pairs of rounds as 0-1,4-5.")
ALIGN = flags.DEFINE_enum(
    "align",
    "none",
    ["none", "permutation"],
    "permutation: first permute the units of the second network to lie nearest to the first.",
)
ABOUT = {
    "other_run": "Run that the second round of each pair is of. Default: that of the first.",
    "at_rounds": "Rounds from which paths are drawn. Default: three.",
}
shared.define(
    *shared.OUTPUT, *ABOUT, "split", "bn_stats", *shared.COMPUTING, about=ABOUT, points=20
)


def main(_):
    options = shared.values("points", "split", "bn_stats", "align")
    runs, other = shared.runs(), shared.other_run()
    at_rounds = flags.FLAGS.at_rounds
    rows, options = barriers.report_barriers(
        runs,
        other,
        shared.output(),
        pairs=PAIRS.value,
        at_rounds=select_rounds(runs[0], at_rounds) if at_rounds else (),
        options=options,
        computing=shared.values(*shared.COMPUTING),
    )
    tables.show(rows, barriers.COLUMNS)
    tables.show_options(options)


if __name__ == "__main__":
    command.run(main)
