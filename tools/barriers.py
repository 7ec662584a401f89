"""Error and loss along the lines between the networks of rounds (Figs. 8, 20, 23).

python -m tools.barriers --run_dir=runs/lenet
"""

import functools

from absl import flags

from lottery_tf.analysis import barriers, loading, rounds, tool
from lottery_tf.config import command
from lottery_tf.errors import InputError

POINTS = flags.DEFINE_integer("points", 20, "Equidistant points of each line, with its ends.")
SPLIT = flags.DEFINE_enum("split", "test", ["test", "train"], "Examples to evaluate on.")
BN_STATS = flags.DEFINE_enum("bn_stats", "recompute", rounds.BN_STATS, rounds.BN_STATS_HELP)
PAIRS = flags.DEFINE_list("pairs", ["successive"], "successive, or pairs of rounds as 0-1,4-5.")
OTHER_RUN = flags.DEFINE_string(
    "other_run", None, "Run that the second round of each pair is of. Default: that of the first."
)
ALIGN = flags.DEFINE_enum(
    "align",
    "none",
    ["none", "permutation"],
    "permutation: first permute the units of the second network to lie nearest to the first.",
)
AT_ROUNDS = flags.DEFINE_list("at_rounds", [], "Rounds from which paths are drawn. Default: three.")


def main(_):
    if POINTS.value < 2:
        raise InputError(f"--points: expected at least 2. Received: {POINTS.value}")
    runs = tool.open_runs()
    (other,) = rounds.open_runs([OTHER_RUN.value]) if OTHER_RUN.value else (None,)
    rounds.check_same_experiment([*runs, other] if other else runs)

    @functools.cache
    def lines():
        engine = loading.engine_of(runs[0])
        from lottery_tf.analysis.paths import Lines

        return Lines(engine, points=POINTS.value, split=SPLIT.value, bn_stats=BN_STATS.value)

    def evaluate(one, two):
        start, end = one.final(), two.final()
        if ALIGN.value == "permutation":
            network = lines().network  # first: it imports TensorFlow
            from lottery_tf.analysis import alignment, symmetries

            end = alignment.align(symmetries.find(network), start, end)
        return lines().evaluate(start, end)

    barriers.report(
        runs,
        other,
        pairs=PAIRS.value,
        evaluate=evaluate,
        options={
            "points": POINTS.value,
            "split": SPLIT.value,
            "bn_stats": rounds.bn_stats(runs[0], BN_STATS.value),
            "align": ALIGN.value,
        },
        at_rounds=rounds.chosen(runs[0], AT_ROUNDS.value) if AT_ROUNDS.value else [],
    )


if __name__ == "__main__":
    command.run(main)
