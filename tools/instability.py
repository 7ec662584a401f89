"""Linear-mode instability of the networks of rounds (Fig. 2; Frankle et al. 2020a).

python -m tools.instability --run_dir=runs/lenet --at_rounds=0,5,10,15

Trains copies that differ in their data seed alone, inside the run, and interpolates between them.
Run it again to resume.
"""

from absl import flags

from lottery_tf.analysis import instability
from lottery_tf.config import command
from lottery_tf.plots import tables
from lottery_tf.terminal import signals

from . import shared

flags.DEFINE_integer(
    "copies", 2, "Trainings of each round, the run's own among them with --start=init."
)
ABOUT = {
    "at_rounds": "Rounds to train again, with commas. Default: those of 0, 5, 10, 15 that are "
    "finished."
}
NAMES = (*shared.OUTPUT, "at_rounds", "start", "split", "bn_stats", *shared.COMPUTING)
shared.define(*NAMES, about=ABOUT, points=30)


def main(_: object) -> int:
    def measure(stop_signal):
        output = shared.output()
        rows, options = instability.report_instability(
            shared.runs(),
            output,
            options=shared.values(*shared.ON_PATHS),
            computing=shared.computing(),
            stop_signal=stop_signal,
            **shared.values("at_rounds", "copies", "start"),
        )
        tables.show(rows, instability.COLUMNS)
        tables.show_options(options)
        tables.show_written(output.written)

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
