"""Histograms of surviving weights, of one run or of two beside one another (Figs. 5, 19, 22).

python -m tools.histograms --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from absl import flags

from lottery_tf.analysis import rounds, tool
from lottery_tf.config import command
from lottery_tf.errors import InputError

AT_ROUNDS = flags.DEFINE_list("at_rounds", ["10"], "Rounds whose trained weights are counted.")
BINS = flags.DEFINE_integer("bins", 60, "Bins of each histogram.")
tool.define_groups()


def main(_):
    if BINS.value < 1:
        raise InputError(f"--bins: expected at least 1. Received: {BINS.value}")
    groups = tool.open_groups()
    at_rounds = [rounds.chosen(run, AT_ROUNDS.value) for runs in groups.values() for run in runs]
    from lottery_tf.analysis import histograms

    histograms.report(groups, at_rounds[0], BINS.value)


if __name__ == "__main__":
    command.run(main)
