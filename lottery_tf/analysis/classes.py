"""Test accuracy of each class, and what pruning costs it beside the dense network.

`over_dense` is the accuracy of a class above that of the dense network, round 0, and
`beyond_mean` what of it is not the change of the accuracy over all classes: Hooker et al. 2019
found that pruning costs some classes more than others. Of n examples of a class, of which only the
one network is right on b and only the other on c, the standard deviation of (b - c)/n is
sqrt(b + c - (b - c)^2/n)/n. What the cache does not hold is evaluated, which imports TensorFlow.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.measure import Chart, Column, Findings, Needs, Table, TableMeasure, usual
from lottery_tf.analysis.replicates import group
from lottery_tf.analysis.runs import Computing, engine_of, metrics_with
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array
from lottery_tf.runs.rounds import FinishedRound, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:  # these import TensorFlow, or take long to import
    from matplotlib.figure import Figure

    from lottery_tf.analysis.predictor import Predictor

ALL = "all classes"
SHOWN, DRAWN = 10, 5  # classes, those that lose most
COLUMNS: Columns = {
    **usual("round", "density"),
    "class": Column("class", "{}", "number of the class from 0, or all classes together"),
    "examples": Column("examples", "{:.0f}", "test examples of the class"),
    **usual("test_accuracy"),
    "over_dense": Column("over dense", "{:+.2%}", "test accuracy above that of round 0"),
    "deviation": Column(
        "deviation", "{:.2%}", "standard deviation of over_dense, from where the networks differ"
    ),
    "beyond_mean": Column("beyond mean", "{:+.2%}", "over_dense less that of all classes together"),
}
MEASURED = ("examples", "test_accuracy", "over_dense", "deviation", "beyond_mean")


def of_predictions(dense: Array, predicted: Array, labels: Array, classes: int) -> list[Row]:
    """Return rows {class, MEASURED} of all classes, then of each, from class numbers (examples,).

    A class without an example has NaN.
    """
    before, right = dense == labels, predicted == labels
    all_classes = {ALL: np.ones(labels.shape, bool)}
    rows: list[Row] = []
    for name, of in (all_classes | {f"class {k}": labels == k for k in range(classes)}).items():
        count = int(of.sum())
        gained, lost = int((right & ~before & of).sum()), int((before & ~right & of).sum())
        of_class = {"class": name, "examples": count} | dict.fromkeys(MEASURED[1:], math.nan)
        if count:
            over = (gained - lost) / count
            of_class["test_accuracy"] = int((right & of).sum()) / count
            of_class["over_dense"] = over
            of_class["deviation"] = math.sqrt(gained + lost - (gained - lost) ** 2 / count) / count
            of_class["beyond_mean"] = over - (rows[0]["over_dense"] if rows else over)
        rows.append(of_class)
    return rows


def of_rounds(
    run: RunDir, *, cache: Cache | None = None, computing: Computing | None = None
) -> list[Row]:
    """Return rows of {round, density, class} and MEASURED of the rounds of a run."""
    cache, rounds = cache or Cache(), finished(run)

    @functools.cache
    def predictor() -> "Predictor":
        engine = engine_of(run, **(computing or {}))
        from lottery_tf.analysis.predictor import Predictor

        return Predictor(engine)

    @functools.cache
    def predicted(of: FinishedRound) -> Array:
        return predictor().classes(of.final(), of.masks())

    def compute(of: FinishedRound) -> list[Row]:
        classes = predictor().engine.network.output_shape[-1]
        return of_predictions(predicted(rounds[0]), predicted(of), predictor().labels, classes)

    found: list[Row] = []
    about = metrics_with(run, "density")
    for of, metrics in zip(console.progress(rounds, "rounds"), about, strict=True):
        rows = cache.reuse([rounds[0], of], ["classes"], compute, of, fits=rows_of(*MEASURED))
        found += [metrics | row for row in rows]
    return found


def losing_most(rows: list[Row]) -> list[str]:
    """Return the classes that lose most in the last round, those first; SHOWN of them at most."""
    last = [row for row in rows if row["round"] == rows[-1]["round"] and row["class"] != ALL]
    known = [row for row in last if math.isfinite(row["over_dense"])]
    return [row["class"] for row in sorted(known, key=lambda row: row["over_dense"])[:SHOWN]]


def of_drawn(rows: list[Row]) -> list[Row]:
    """Return the rows of all classes together, and of the DRAWN ones that lose most."""
    by_class = group(rows, ("class",))
    return [row for name in (ALL, *losing_most(rows)[:DRAWN]) for row in by_class[name,]]


@dataclasses.dataclass
class Classes(TableMeasure):
    """Test accuracy of each class, and how far pruning changes it from that of the dense network.

    python -m tools.classes --run_dir=runs/lenet
    """

    name = "classes"
    needs = Needs.ENGINE
    columns = COLUMNS
    by = ("round", "class")
    title = "Accuracy of each class"
    csv_files: ClassVar = {"classes.csv": "one row for each round and class, and for all classes"}
    picture_tags: ClassVar = {
        "classes": ("classes.png", "accuracy of classes above the dense network's, by density"),
    }
    chart: ClassVar = Chart(
        "over_dense",
        "accuracy above the dense network's (points)",
        percent=True,
        caption="Test accuracy of each class above that of the dense network",
        by="class",
    )

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_rounds(run, cache=cache, computing=self.computing)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, and a picture of the classes that lose most."""
        (usual,) = super().findings(run, of_drawn(value), title)
        return [usual._replace(tables={"": value})]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        """Return a row for each round, with a column for each class, and the last round's rows."""
        worst = losing_most(value)
        columns = usual("round", "density", "test_accuracy")
        columns |= {name: (name.removeprefix("class "), "{:+.2%}") for name in (ALL, *worst)}
        rows = []
        for of_round in group(value, ("round",)).values():
            over = {row["class"]: row["over_dense"] for row in of_round}
            rows.append(of_round[0] | over)
        return [
            "Accuracy above the dense network's, of the classes that lose most in the last round:",
            (rows, columns),
            f"Round {value[-1]['round']}:",
            (self.report_rows(value), self.columns),
        ]

    @classmethod
    def report_rows(cls, rows: list[Row]) -> list[Row]:
        """Return the rows of the last round, the classes that lose most first."""
        last = {row["class"]: row for row in rows if row["round"] == rows[-1]["round"]}
        return [last[name] for name in (ALL, *losing_most(rows))]

    @classmethod
    def report_pictures(cls, rows: list[Row]) -> "dict[str, Callable[[], Figure]]":
        """Return the picture of the classes that lose most."""
        return super().report_pictures(of_drawn(rows))

    @classmethod
    def verdict(cls, rows: list[Row]) -> str:
        """Return which class loses most in the sparsest round."""
        whole, *classes = cls.report_rows(rows)
        if not classes:
            return ""
        return (
            f"At density {whole['density']:.2%} {classes[0]['class']} changes by "
            f"{classes[0]['over_dense']:+.2%} from the dense network, all classes together by "
            f"{whole['over_dense']:+.2%}."
        )


MEASURE = Classes
