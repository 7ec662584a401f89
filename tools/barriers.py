"""Error and loss along the lines between the networks of rounds (Figs. 8, 20, 23).

python -m tools.barriers --run_dir=runs/lenet
"""

from absl import flags

from lottery_tf.analysis import barriers
from lottery_tf.analysis.runs import select_rounds
from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

PAIRS = flags.DEFINE_list("pairs", ["successive"], "successive, or pairs of rounds as 0-1,4-5.")
ALIGN = "permutation: first permute the units of the second network to lie nearest to the first."
flags.DEFINE_enum("align", "none", ["none", "permutation"], ALIGN)
ABOUT = {
    "other_run": "Run that the second round of each pair is of. Default: that of the first.",
    "at_rounds": "Rounds from which paths are drawn. Default: three.",
}
shared.define(*shared.OUTPUT, *ABOUT, *shared.ON_PATHS, *shared.COMPUTING, about=ABOUT)


def main(_: object) -> None:
    runs, other, at_rounds = shared.runs(), shared.other_run(), flags.FLAGS.at_rounds
    output = shared.output()
    rows, options = barriers.report_barriers(
        runs,
        other,
        output,
        pairs=PAIRS.value,
        at_rounds=select_rounds(runs[0], at_rounds) if at_rounds else (),
        options=shared.values(*shared.ON_PATHS, "align"),
        computing=shared.computing(),
    )
    tables.show(rows, barriers.COLUMNS)
    tables.show_options(options)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
