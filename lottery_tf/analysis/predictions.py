"""How often two networks predict different classes on the test split: functions, not weights.

    disagreement   part of the test examples of which two networks predict different classes
    independent    what it would be if both erred independently of one another, with accuracies a
                   and b, and any wrong class of K were as likely: 1 - ab - (1 - a)(1 - b)/(K - 1)
    ratio          disagreement / independent: 0 for one function, 1 for independent errors
    divergence     Jensen-Shannon divergence of the softmax outputs in bits, the mean over examples:
                   H((p + q)/2) - (H(p) + H(q))/2, from 0 for equal outputs to 1

A round is compared with the one before it, with the dense network of round 0, and with its copies:
trainings of the same start and mask with another data seed, which `tools.instability` and others
leave in the run. What the cache does not hold is evaluated, which imports TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.measure import (
    Chart,
    Column,
    Findings,
    Measure,
    Needs,
    Picture,
    Table,
    curve,
    usual,
)
from lottery_tf.analysis.replicates import group, labelled, matrices_of_runs, over_runs
from lottery_tf.analysis.retraining import Retrainings
from lottery_tf.analysis.runs import Computing, check_same_experiment, config_of, engine_of
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array
from lottery_tf.pruning.policy import IN_TRAINING
from lottery_tf.runs.rounds import FinishedRound, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:  # it imports TensorFlow
    from lottery_tf.analysis.predictor import Predictor

BEFORE, DENSE, COPIES = "round before", "dense network", "its copies"
BY = ("round", "other")
COMPARED = ("test_accuracy", "other_accuracy", "disagreement", "independent", "ratio", "divergence")
COLUMNS: Columns = {
    **usual("round", "density"),
    "other": Column("compared with", "{}", "network that the round's is compared with"),
    **usual("test_accuracy"),
    "other_accuracy": Column("its acc", "{:.2%}", "test accuracy of the other network"),
    "disagreement": Column(
        "disagreement",
        "{:.2%}",
        "fraction of the test examples that two networks class differently",
    ),
    "independent": Column(
        "if independent", "{:.2%}", "disagreement of independent errors of the same accuracies"
    ),
    "ratio": Column("ratio", "{:.3f}", "disagreement over that of independent errors"),
    "divergence": Column(
        "divergence", "{:.4f}", "mean Jensen-Shannon divergence of the softmax outputs", "bits"
    ),
}
FRACTION = "part of the test examples that is classed differently"
WHAT = "test examples that are classed differently (%)"


def independent_disagreement(one: float, other: float, classes: int) -> float:
    """Return how often two networks disagree that err independently, from their accuracies.

    They agree if both are right, or if both give the same of classes - 1 wrong ones.
    """
    return 1 - one * other - (1 - one) * (1 - other) / (classes - 1)


def divergence(one: Array, other: Array) -> float:
    """Return the mean Jensen-Shannon divergence, in bits, of rows of probabilities."""

    def entropy(rows: Array) -> Array:
        return -(rows * np.log2(np.maximum(rows, 1e-30))).sum(1)

    one, other = one.astype(np.float64), other.astype(np.float64)
    of_rows = entropy((one + other) / 2) - (entropy(one) + entropy(other)) / 2
    return float(np.maximum(of_rows, 0).mean())


def compare(one: Array, other: Array, labels: Array) -> Row:
    """Return COMPARED of two networks, from their softmax outputs (examples, classes) and labels.

    The ratio of two networks without an error is 0.
    """
    classes = one.argmax(1), other.argmax(1)
    first, second = (float((of == labels).mean()) for of in classes)
    disagreement = float((classes[0] != classes[1]).mean())
    independent = independent_disagreement(first, second, one.shape[1])
    return {
        "test_accuracy": first,
        "other_accuracy": second,
        "disagreement": disagreement,
        "independent": independent,
        "ratio": disagreement / independent if independent else 0.0,
        "divergence": divergence(one, other),
    }


class _Comparisons:
    """Compares the networks of the rounds of a run with one another, its copies, or another run."""

    def __init__(self, run: RunDir, cache: Cache, computing: Computing):
        self.run, self.cache, self.computing = run, cache, computing
        self.retrainings = Retrainings(run, computing=computing)
        self.outputs = functools.cache(self._outputs)

    @functools.cached_property
    def predictor(self) -> "Predictor":
        # A run whose masks change in training has no copies, and Retrainings refuses it.
        in_training = config_of(self.run).policy.prunes_at in IN_TRAINING
        of = engine_of(self.run, **self.computing) if in_training else self.retrainings.engine
        from lottery_tf.analysis.predictor import Predictor

        return Predictor(of)

    def _outputs(self, of: FinishedRound) -> Array:
        return self.predictor.probabilities(of.final(), of.masks())

    def with_rounds(self, of: FinishedRound, others: Sequence[FinishedRound]) -> list[Row]:
        """Return COMPARED of a round and each of some others."""
        if not others:
            return []

        def compute() -> list[Row]:
            labels = self.predictor.labels
            return [compare(self.outputs(of), self.outputs(other), labels) for other in others]

        fits = rows_of(*COMPARED, count=len(others))
        return self.cache.reuse([of, *others], ["predictions"], compute, fits=fits)

    def with_copies(self, of: FinishedRound) -> list[Row]:
        """Return COMPARED of a round and each of its copies that is finished."""
        sources = self.retrainings.sources(of.round)

        def compute() -> list[Row]:
            own, masks, labels = self.outputs(of), of.masks(), self.predictor.labels
            copies = self.retrainings.finished(of.round)
            return [compare(own, self.predictor.probabilities(w, masks), labels) for w in copies]

        key = ["predictions of copies", sources]
        fits = rows_of(*COMPARED)
        return self.cache.reuse([of], key, compute, fits=fits) if sources else []


def between_rounds(
    run: RunDir,
    other: RunDir | None = None,
    *,
    cache: Cache | None = None,
    computing: Computing | None = None,
) -> tuple[list[Row], Array]:
    """Return what rounds are compared with, and the disagreement of all, (rounds, other's rounds).

    The rows {round, density, other, collapsed} and COMPARED are of each round and the one before
    it, the dense network and its copies; or, with another run, its same round. "collapsed" is 1
    where either network has.
    """
    check_same_experiment([run, other])
    comparisons = _Comparisons(run, cache or Cache(), computing or {})
    metrics, of_other = run.metrics(), (other or run).metrics()
    rounds, columns = finished(run), finished(other or run)
    matrix, rows = np.zeros((len(rounds), len(columns))), []
    for index, of in enumerate(console.progress(rounds, "rounds")):
        others = columns if other else rounds[:index]
        found = comparisons.with_rounds(of, others)
        matrix[index, : len(found)] = [compared["disagreement"] for compared in found]
        if not other:
            matrix[:index, index] = matrix[index, :index]
        places = {other.path.name: index} if other else {BEFORE: index - 1, DENSE: 0}
        about = {"round": of.round, "density": metrics[index]["density"]}
        for name, place in places.items():
            if 0 <= place < len(found):
                bad = has_collapsed(metrics[index]) or has_collapsed(of_other[place])
                rows.append(about | {"other": name} | found[place] | {"collapsed": int(bad)})
        if not other and (copies := comparisons.with_copies(of)):
            mean = {name: float(np.mean([copy[name] for copy in copies])) for name in COMPARED}
            bad = has_collapsed(metrics[index])
            rows.append(about | {"other": COPIES} | mean | {"collapsed": int(bad)})
    if not rows:
        raise InputError(
            f"{run.path}: expected two finished rounds or more, or copies of a round. Found one."
        )
    return rows, matrix


Value = tuple[list[Row], dict[str, Array]]  # {"": matrix} of a run, {"mean": matrix, …} of several


@dataclasses.dataclass
class Predictions(Measure[Value]):
    """How often the networks of two rounds, copies or runs class a test example differently.

    python -m tools.predictions --run_dir=runs/lenet
    """

    name = "predictions"
    needs = Needs.ENGINE
    columns = COLUMNS
    by = BY
    other_help = "Run with whose rounds those of --run_dir are compared. Default: with one another."
    title = "Predictions of the rounds"
    csv_files: ClassVar = {
        "predictions.csv": "one row for each round and network that it is compared with",
        "predictions_matrix.csv": "disagreement of all rounds: one row and one column for each",
    }
    csv_columns: ClassVar = {"collapsed": ("", "1 if one of the networks has collapsed, else 0")}
    picture_tags: ClassVar = {
        "predictions/disagreement": ("predictions.png", "disagreement against density"),
        "predictions/disagreement_to_{run}": (
            "predictions_to_{run}.png",
            "disagreement with --other_run",
        ),
        "predictions/matrix": ("predictions_matrix.png", "disagreement of all rounds"),
        "predictions/matrix_to_{run}": (
            "predictions_matrix_to_{run}.png",
            "the same with --other_run",
        ),
    }
    chart: ClassVar = Chart(
        "disagreement",
        WHAT,
        percent=True,
        caption="Part of the test examples that two networks class differently",
        by="other",
    )

    def prepare(self) -> None:
        """Check that the runs go together."""
        check_same_experiment([*self.runs, self.other])

    @property
    def end(self) -> str:
        """The end of the names of files and tags."""
        return f"_to_{self.other.path.name}" if self.other else ""

    def measure(self, run: RunDir, cache: Cache) -> Value:
        rows, matrix = between_rounds(run, self.other, cache=cache, computing=self.computing)
        return rows, {"": matrix}

    def combine(self, values: list[Value]) -> Value:
        matrices = matrices_of_runs(self.runs, [of[""] for _, of in values], self.other)
        return over_runs([rows for rows, _ in values], self.by), matrices

    def findings(self, run: RunDir, value: Value, title: str) -> list[Findings]:
        """Return the table with its chart, and the matrices with a picture of each."""
        from lottery_tf.plots import figures

        (rows, matrices), end = value, self.end
        tables, curves = {end: rows}, {}
        pictures = {f"predictions/disagreement{end}": Picture(self.chart.draw(rows, title), end)}
        for (name,), of_name in group(rows, ("other",)).items():
            tag = f"predictions/{name.replace(' ', '_')}"
            curves[f"{tag} disagreement"] = curve(of_name, "disagreement")
        for which, matrix in matrices.items():
            of_matrix = "_".join(filter(None, ("_matrix" + end, which)))
            tables[of_matrix] = labelled(matrix)
            top = float(np.nanmax(matrix)) or 1.0
            told = f"{which} of {len(self.runs)} runs" if which else title
            pictures[f"predictions/{of_matrix[1:]}"] = Picture(
                figures.matrix(
                    matrix, run, self.other, what=FRACTION, title=told, scale=(0.0, top)
                ),
                of_matrix,
            )
        return [Findings(f"predictions{end}", tables, pictures, curves)]

    def shown(self, values: list[Value], value: Value) -> list[str | Table]:
        """Return the table."""
        rows = [row | {"state": "collapsed" if row["collapsed"] else ""} for row in value[0]]
        return [(rows, self.columns | {"state": ("state", "{}")})]


MEASURE = Predictions
