"""The distances in weight space between the networks of all rounds (Figs. 4, 9-11, 15-18, 21).

python -m tools.distances --run_dir=runs/lenet
"""

from absl import flags

from lottery_tf.analysis.products import METRICS
from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

METRIC = flags.DEFINE_enum(
    "metric",
    "angular",
    [*METRICS, "all"],
    "angular: 2 angle / pi; cosine: 1 - cosine; euclidean: L2; each on the weights alive in both.",
)
shared.define(*shared.OUTPUT, "other_run")


def main(_: object) -> None:
    runs, other, output = shared.runs(), shared.other_run(), shared.output()
    metrics = list(METRICS) if METRIC.value == "all" else [METRIC.value]
    from lottery_tf.analysis import distances

    rows, columns = distances.report_distances(runs, metrics, other, output)
    if len(runs) > 1:
        print(f"Mean of {len(runs)} runs; accuracies of {runs[0].path}:")
    tables.show(rows, columns)
    for metric in metrics:
        print(f"({distances.LABELS[metric]})")
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
