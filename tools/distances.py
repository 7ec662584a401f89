"""The distances in weight space between the networks of all rounds (Figs. 4, 9-11, 15-18, 21).

python -m tools.distances --run_dir=runs/lenet
"""

from absl import flags

from lottery_tf.analysis import rounds, tool
from lottery_tf.analysis.distances import METRICS
from lottery_tf.config import command

METRIC = flags.DEFINE_enum(
    "metric",
    "angular",
    [*METRICS, "all"],
    "angular: 2 angle / pi; cosine: 1 - cosine; euclidean: L2; each on the weights alive in both.",
)
OTHER_RUN = flags.DEFINE_string(
    "other_run", None, "Run whose rounds are the columns. Default: those of --run_dir."
)


def main(_):
    runs = tool.open_runs()
    (other,) = rounds.open_runs([OTHER_RUN.value]) if OTHER_RUN.value else (None,)
    from lottery_tf.analysis import matrices

    matrices.report(runs, list(METRICS) if METRIC.value == "all" else [METRIC.value], other)


if __name__ == "__main__":
    command.run(main)
