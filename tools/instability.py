"""Linear-mode instability of the networks of rounds (Fig. 2; Frankle et al. 2020a).

python -m tools.instability --run_dir=runs/lenet --at_rounds=0,5,10,15

Trains copies that differ in their data seed alone, inside the run, and interpolates between them.
Run it again to resume.
"""

import functools

from absl import flags

from lottery_tf.analysis import instability, loading, rounds, tool
from lottery_tf.analysis.copies import Copies
from lottery_tf.config import command
from lottery_tf.errors import InputError
from lottery_tf.terminal import signals

AT_ROUNDS = flags.DEFINE_list("at_rounds", ["0", "5", "10", "15"], "Rounds to train again.")
COPIES = flags.DEFINE_integer(
    "copies", 2, "Trainings of each round, the run's own among them with --start=init."
)
START = flags.DEFINE_string(
    "start",
    "init",
    "init, or rewind:STEP (rewind:4ep): train from the state of round 0 after so many steps.",
)
POINTS = flags.DEFINE_integer("points", 30, "Equidistant points of each line, with its ends.")
SPLIT = flags.DEFINE_enum("split", "test", ["test", "train"], "Examples to evaluate on.")
BN_STATS = flags.DEFINE_enum("bn_stats", "recompute", rounds.BN_STATS, rounds.BN_STATS_HELP)


def main(_):
    for flag, least in ((POINTS, 2), (COPIES, 2)):
        if flag.value < least:
            raise InputError(f"--{flag.name}: expected at least {least}. Received: {flag.value}")
    runs = tool.open_runs()
    at_rounds = [rounds.chosen(run, AT_ROUNDS.value) for run in runs]
    first_seeds = [loading.config_of(run).data_seed for run in runs]
    options = {"start": START.value, "points": POINTS.value, "split": SPLIT.value}
    options["bn_stats"] = rounds.bn_stats(runs[0], BN_STATS.value)

    def measure(received):
        @functools.cache
        def copies(run):
            return Copies(run, START.value, received)

        @functools.cache
        def lines(run):
            from lottery_tf.analysis.paths import Lines

            engine = copies(run).engine
            return Lines(engine, points=POINTS.value, split=SPLIT.value, bn_stats=BN_STATS.value)

        instability.report(
            runs,
            at_rounds,
            data_seeds=[range(first, first + COPIES.value) for first in first_seeds],
            weights_of=lambda run, round, seed: copies(run).of_round(round, seed)[0],
            evaluate=lambda run, *ends: lines(run).evaluate(*ends),
            options=options,
        )

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
