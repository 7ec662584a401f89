"""The largest eigenvalue of the Hessian at the ends of rounds.

Of the mean cross-entropy over the first training examples, unaugmented and without weight decay,
with respect to the weights that are alive and all other trainable variables. Found by Lanczos
iterations on products with the Hessian. What the cache does not hold imports TensorFlow.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lottery_tf.analysis.cache import Cache, is_number
from lottery_tf.analysis.measure import Chart, Column, Needs, TableBeside, usual
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import (
    Computing,
    Groups,
    Rounds,
    as_groups,
    check_at_least,
    engine_of,
    first_examples,
    metrics_with,
    select_rounds,
)
from lottery_tf.config.fields import flag
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:  # SciPy is an extra, and the Hessian imports TensorFlow
    from scipy.sparse.linalg import LinearOperator

    from lottery_tf.masking.gradients import Hessian

EXAMPLES = 1000
TOLERANCE = 1e-4  # of an eigenvalue, relative; float32 gives little more
COLUMNS: Columns = {
    **usual("run", "round", "density", "test_accuracy"),
    "eigenvalue": Column(
        "largest eigenvalue",
        "{:.3f}",
        "largest eigenvalue of the Hessian of the training loss, over the weights alive",
    ),
    "eigenvalue_min": Column("min", "{:.3f}", "least of the replicates"),
    "eigenvalue_max": Column("max", "{:.3f}", "largest of the replicates"),
}


def largest_eigenvalue(hessian: "LinearOperator") -> float:
    """Return the largest eigenvalue, by sign, of a symmetric operator of three or more dimensions.

    The iterations start from the same vector each time, so that the result is the same.
    """
    from scipy.sparse.linalg import eigsh

    start = np.ones(hessian.shape[0])
    values = eigsh(hessian, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)
    return float(values[0])


def of_rounds(
    runs: RunDir | Groups,
    *,
    at_rounds: Rounds = (),
    examples: int = EXAMPLES,
    cache: Cache | None = None,
    computing: Computing | None = None,
) -> list[Row]:
    """Return rows of {run, round, density, test_accuracy, eigenvalue} of a run, or {label: runs}.

    They are of one model and dataset, and by default of all rounds. `examples` says how many of the
    training split are taken, from its beginning.
    """
    check_at_least(1, examples=examples)
    groups, kept = as_groups(runs), cache or Cache()
    first = next(iter(groups.values()))[0]
    options = ["largest eigenvalue", examples, TOLERANCE]

    @functools.cache
    def hessian() -> "Hessian":
        engine = engine_of(
            first, **(computing or {})
        )  # it imports TensorFlow, without its messages
        from lottery_tf.masking.gradients import Hessian

        images, labels = first_examples(engine, examples)
        return Hessian(engine.network, engine.normalise(images), labels)

    def compute(of: FinishedRound) -> float:
        return largest_eigenvalue(hessian().at(of.final(), of.masks()))

    def rows_of(run: RunDir) -> list[Row]:
        rows, metrics = [], metrics_with(run, "density", "test_accuracy")
        for round in console.progress(select_rounds(run, at_rounds), "rounds"):
            of = FinishedRound(run.path, round)
            eigenvalue = kept.reuse([of], options, compute, of, fits=is_number)
            rows.append(metrics[round] | {"eigenvalue": eigenvalue})
        return rows

    return side_by_side(groups, rows_of)


@dataclasses.dataclass
class Curvature(TableBeside):
    """Measures the largest eigenvalue of the training loss's Hessian at the ends of rounds.

    python -m tools.curvature --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    at_rounds: Rounds = flag((), "Finished rounds to measure, separated by commas. Default: all.")
    examples: int = flag(
        EXAMPLES, "Number of training examples, from the first on, over which the loss is averaged."
    )

    name = "curvature"
    needs = Needs.ENGINE
    columns = COLUMNS
    title = "Curvature"
    csv_files: ClassVar = {"curvature.csv": "one row for each run and round"}
    picture_tags: ClassVar = {
        "curvature/eigenvalue": ("curvature.png", "largest eigenvalue against density"),
    }
    chart: ClassVar = Chart(
        "eigenvalue",
        "largest eigenvalue of the Hessian",
        caption="Largest eigenvalue of the Hessian of the training loss at the end of each round",
        by="run",
        tag="curvature/eigenvalue",
    )

    def prepare(self) -> None:
        """Check the rounds of all runs before the first is computed."""
        for run in (run for runs in self.groups.values() for run in runs):
            select_rounds(run, self.at_rounds)

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_rounds(self.groups, cache=cache, computing=self.computing, **self.asked)


MEASURE = Curvature
