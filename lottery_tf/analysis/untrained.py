"""Test accuracy of a round before it trains: of a ticket, that of W_0 under its mask.

Zhou et al. 2019 found that masks of magnitude pruning alone carry W_0 far above chance. A run that
rewinds is measured at its rewind point under the mask, a reinit at its fresh weights, whose
accuracy is chance. BatchNorm takes the statistics of the first 10,000 training examples, as
untrained networks have no running ones. What the cache does not hold imports TensorFlow.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.measure import Chart, Column, Needs, TableBeside, usual
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import Computing, Groups, as_groups, engine_of, metrics_with
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:  # it imports TensorFlow
    from lottery_tf.analysis.path_evaluator import PathEvaluator

COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "untrained_accuracy": Column(
        "untrained", "{:.2%}", "test accuracy of the weights that the round starts from"
    ),
    "untrained_accuracy_min": Column("min", "{:.2%}", "least of the replicates"),
    "untrained_accuracy_max": Column("max", "{:.2%}", "largest of the replicates"),
    "untrained_loss": Column("its loss", "{:.4f}", "mean cross-entropy of these weights", "nats"),
    **usual("test_accuracy"),
}


def of_rounds(
    runs: RunDir | Groups, *, cache: Cache | None = None, computing: Computing | None = None
) -> list[Row]:
    """Return rows of {run, round, density, untrained_accuracy, untrained_loss, test_accuracy}.

    They are of the rounds of a run, or of {label: runs} of one model and dataset.
    """
    groups, kept = as_groups(runs), cache or Cache()
    first = next(iter(groups.values()))[0]

    @functools.cache
    def evaluator() -> "PathEvaluator":
        engine = engine_of(first, **(computing or {}))
        from lottery_tf.analysis.path_evaluator import PathEvaluator

        return PathEvaluator(engine, points=1)

    def compute(run: RunDir, round: int) -> list[Row]:
        start = run.initial(round)
        (point,) = evaluator().evaluate(start, start)
        return [{"untrained_accuracy": 1 - point["error"], "untrained_loss": point["loss"]}]

    fits = rows_of("untrained_accuracy", "untrained_loss", count=1)

    def rows_of_run(run: RunDir) -> list[Row]:
        rows = []
        for about in console.progress(metrics_with(run, "density", "test_accuracy"), "rounds"):
            of = FinishedRound(run.path, about["round"])
            found = kept.reuse([of], ["untrained"], compute, run, of.round, fits=fits)
            rows.append(about | found[0])
        return rows

    return side_by_side(groups, rows_of_run)


@dataclasses.dataclass
class Untrained(TableBeside):
    """Test accuracy of the weights that each round starts from: the untrained ticket.

    python -m tools.untrained --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    name = "untrained"
    needs = Needs.ENGINE
    columns = COLUMNS
    title = "The untrained ticket"
    csv_files: ClassVar = {"untrained.csv": "one row for each run and round"}
    picture_tags: ClassVar = {
        "untrained": ("untrained.png", "test accuracy before training against density"),
    }
    chart: ClassVar = Chart(
        "untrained_accuracy",
        "test accuracy before training (%)",
        percent=True,
        caption="Test accuracy of the weights that each round starts from, under its mask",
        by="run",
    )

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_rounds(self.groups, cache=cache, computing=self.computing)


MEASURE = Untrained
