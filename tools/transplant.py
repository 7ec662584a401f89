"""The masks of one run on the initialization of another, permuted or not (Adnan et al. 2025).

python -m tools.transplant --run_dir=runs/lenet_seed=1 --other_run=runs/lenet --at_rounds=10,15

Trains what it needs inside the run of --run_dir. Run it again to resume.
"""

from absl import flags

from lottery_tf.analysis import transplant
from lottery_tf.config import command
from lottery_tf.plots import tables
from lottery_tf.terminal import signals

from . import shared

flags.DEFINE_integer("replicates", 1, "How often, with another data seed and random mask each.")
ABOUT = {
    "run_dir": "Run whose initialization is trained; several, with commas, are replicates.",
    "other_run": "Run from another initialization, whose masks are put onto it. Default: none.",
    "at_rounds": "Rounds whose masks are used, with commas. Default: 10; of a shorter run the "
    "last.",
}
shared.define("out_dir", "pdf", *ABOUT, *shared.COMPUTING, about=ABOUT)


def main(_: object) -> int:
    def measure(stop_signal):
        output = shared.output()
        rows = transplant.report_transplant(
            shared.runs(),
            shared.other_run(),
            output,
            computing=shared.computing(),
            stop_signal=stop_signal,
            **shared.values("at_rounds", "replicates"),
        )
        tables.show(rows, transplant.COLUMNS)
        tables.show_written(output.written)

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
