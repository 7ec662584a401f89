"""A fixed mask trained for as many cycles as IMP had rounds (Gadhikar et al. 2024).

python -m tools.cyclic --run_dir=runs/lenet --at_rounds=10

Trains what it needs inside the run. Run it again to resume.
"""

from absl import flags

from lottery_tf.analysis import cyclic
from lottery_tf.config import command
from lottery_tf.plots import tables
from lottery_tf.terminal import signals

from . import shared

CYCLES = "Trainings of each mask, one after the other. Default: as many as IMP had, round + 1."
flags.DEFINE_integer("cycles", None, CYCLES)
ABOUT = {
    "at_rounds": "Rounds whose masks are trained, with commas. Default: 10; of a shorter run the "
    "last."
}
shared.define(*shared.OUTPUT, *ABOUT, *shared.COMPUTING, about=ABOUT)


def main(_: object) -> int:
    def measure(stop_signal):
        output = shared.output()
        rows = cyclic.report_cyclic(
            shared.runs(),
            output,
            computing=shared.computing(),
            stop_signal=stop_signal,
            **shared.values("at_rounds", "cycles"),
        )
        tables.show(rows, cyclic.COLUMNS)
        tables.show_written(output.written)

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
