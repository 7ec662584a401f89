"""Stability to pruning and to data order of tickets and random masks (Frankle et al. 2019).

python -m tools.stability --run_dir=runs/lenet --at_rounds=10 --replicates=3

Trains what it needs inside the run. Run it again to resume.
"""

import functools

from absl import flags

from lottery_tf.analysis import rounds, stability, tool
from lottery_tf.analysis.copies import Copies
from lottery_tf.config import command
from lottery_tf.errors import InputError
from lottery_tf.terminal import signals

AT_ROUNDS = flags.DEFINE_list("at_rounds", ["10"], "Rounds whose masks are measured.")
REPLICATES = flags.DEFINE_integer(
    "replicates", 1, "How often, with other SGD noise and other random masks."
)
START = flags.DEFINE_string(
    "start", "init", "init, or rewind:STEP (rewind:4ep): W_t is round 0 after so many steps."
)


def main(_):
    if REPLICATES.value < 1:
        raise InputError(f"--replicates: expected at least 1. Received: {REPLICATES.value}")
    runs = tool.open_runs()
    at_rounds = [rounds.chosen(run, AT_ROUNDS.value) for run in runs]
    for run in runs:
        if run.config()["reset"] == "reinit":
            raise InputError(
                f"{run.path}: expected a run that resets to round 0 (--reset=init). Of a reinit "
                "the initial weights that were pruned are not stored."
            )

    def measure(received):
        @functools.cache
        def copies(run):
            return Copies(run, START.value, received)

        def train(run, masks, round, replicate, noise, name):
            of_run = copies(run)
            data_seed = of_run.config.data_seed + 2 * replicate + noise
            if name == "ticket":
                return of_run.of_round(round, data_seed)
            if name == "random":
                name = f"random_{replicate}"
            return of_run.under(masks, round, data_seed, f"round_{round:02d}_{name}")

        stability.report(
            runs,
            at_rounds,
            replicates=REPLICATES.value,
            train=train,
            options={"start": START.value},
        )

    return signals.resumable(measure)


if __name__ == "__main__":
    command.run(main)
