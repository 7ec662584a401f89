"""Stability to pruning and to data order of tickets and random masks (Frankle et al. 2019).

python -m tools.stability --run_dir=runs/lenet --at_rounds=10 --replicates=3

Trains what it needs inside the run. Run it again to resume.
"""

from absl import flags

from lottery_tf.analysis import stability
from lottery_tf.config import command
from lottery_tf.plots import tables
from lottery_tf.terminal import signals

from . import shared

flags.DEFINE_integer("replicates", 1, "How often, with other SGD noise and other random masks.")
ABOUT = {
    "at_rounds": "Rounds whose masks are measured, with commas. Default: 10; of a shorter run the "
    "last.",
    "start": "init, or rewind:STEP (rewind:4ep): W_t is round 0 after so many steps.",
}
shared.define(*shared.OUTPUT, "at_rounds", "start", *shared.COMPUTING, about=ABOUT)


def main(_: object) -> int:
    def measure(stop_signal):
        output = shared.output()
        rows = stability.report_stability(
            shared.runs(),
            output,
            computing=shared.computing(),
            stop_signal=stop_signal,
            **shared.values("at_rounds", "replicates", "start"),
        )
        tables.show(rows, stability.COLUMNS)
        if "l2_published" in rows[0]:
            print("Published: Frankle et al. 2019, LeNet on MNIST at density 10.7%.")
        tables.show_written(output.written)

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
