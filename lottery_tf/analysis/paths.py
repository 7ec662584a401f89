"""The straight path between two networks: how it is evaluated, and its barrier.

What `evaluator` gives imports TensorFlow when it is first called.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lottery_tf.analysis.cache import Fits, rows_of
from lottery_tf.analysis.measure import Chart, Findings, Measure, Picture, curve
from lottery_tf.analysis.replicates import group, over_runs
from lottery_tf.analysis.runs import check_at_least
from lottery_tf.config.fields import flag
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights, collapse
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

if TYPE_CHECKING:  # these import TensorFlow
    from lottery_tf.analysis.path_evaluator import PathEvaluator
    from lottery_tf.training.engine import Engine

Evaluate = Callable[[Iterable[Weights]], list[Row]]
QUANTITIES = {"error": ("error (%)", True), "loss": ("cross-entropy", False)}
POINT = ("alpha", "loss", "error", "collapsed")  # columns of a point of a path
# {column that only CSV files have: (unit, what it is)}
CSV_COLUMNS = {
    "split": ("", "examples that were evaluated: test or train"),
    "bn_stats": ("", "BatchNorm statistics along the path: a mode, or none without BatchNorm"),
    "alpha": ("", "place on the path, from 0 at the first end to 1 at the second"),
    "error": ("fraction", "classification error at this point"),
    "loss": ("nats", "mean cross-entropy at this point"),
    "error_barrier_larger_end": ("fraction", "largest error on the path, above its larger end"),
    "loss_barrier": ("nats", "largest cross-entropy on the path, above the mean of its ends"),
    "loss_barrier_larger_end": (
        "nats",
        "largest cross-entropy on the path, above its larger end",
    ),
    "collapsed": ("", "1 if an end has collapsed, else 0; a fraction in means"),
}
# Options that a file's name need not tell.
USUAL = {"split": ("test",), "bn_stats": ("recompute", "none"), "align": ("none",)}
POINTS = "Number of equidistant points on each line, including its ends."  # help of the flag
Tables = dict[str, list[Row]]  # {end of a file's name: rows}


def barrier(values: Sequence[float]) -> tuple[float, float]:
    """Return the barriers of values on a path, (above the mean of its ends, above the larger)."""
    ends, highest = (values[0], values[-1]), max(values)
    return float(highest - sum(ends) / 2), float(highest - max(ends))


def summarize(points: Sequence[Row]) -> Row:
    """Return {error_barrier, error_barrier_larger_end, those of the loss, collapsed} of a path.

    "collapsed" is 1 if one of its ends is.
    """
    row: Row = {}
    for measure in QUANTITIES:
        mean, larger = barrier([point[measure] for point in points])
        row |= {f"{measure}_barrier": mean, f"{measure}_barrier_larger_end": larger}
    return row | {"collapsed": max(points[0]["collapsed"], points[-1]["collapsed"])}


def lacks_a_layer(*rounds: FinishedRound) -> bool:
    """Return whether a layer of one of the networks has no weight left."""
    return any(collapse.of_masks(finished_round.masks()) for finished_round in rounds)


def fits(points: int) -> Fits:
    """Return whether a value of a cache is what an Evaluate gives of so many points."""
    numbers = rows_of(*POINT, count=points)
    return lambda rows: numbers(rows) and all(row["collapsed"] in (0, 1) for row in rows)


def evaluator(
    engine: Callable[[], "Engine"], *, points: int, split: str, bn_stats: str, align: str = "none"
) -> Evaluate:
    """Return a function of the two ends of a path -> rows of POINT; options as the flags.

    `engine` gives an Engine; it is called, once, when first needed.
    """

    @functools.cache
    def paths() -> "PathEvaluator":
        of = engine()  # it imports TensorFlow, without its messages
        from lottery_tf.analysis.path_evaluator import PathEvaluator

        return PathEvaluator(
            of, points=points, split=split, bn_stats=bn_stats, first_layer_once=True
        )

    def evaluate(ends: Iterable[Weights]) -> list[Row]:
        start, end = ends
        if align == "permutation":
            network = paths().network
            from lottery_tf.analysis import alignment

            end = alignment.align(alignment.find(network), start, end)
        return paths().evaluate(start, end)

    return evaluate


def options_of(
    run: RunDir, *, points: int, split: str = "test", bn_stats: str = "recompute", **others: Any
) -> dict[str, Any]:
    """Return the options that paths depend on, checked; without BatchNorm bn_stats is "none"."""
    check_at_least(2, points=points)
    if not any(p.endswith("/moving_variance") for p in FinishedRound(run.path, 0).shapes("final")):
        bn_stats = "none"
    return {"points": points, "split": split, "bn_stats": bn_stats} | others


def of_their_paths(rows: list[Row], points: list[Row], by: Sequence[str]) -> list[Row]:
    """Return the points of paths with "collapsed" of the whole path, so that means take it whole.

    Between two good networks lie networks at chance: they are the barrier. There is one of the rows
    for each path; they differ in the columns `by`.
    """
    collapsed = {tuple(row[name] for name in by): row["collapsed"] for row in rows}
    return [point | {"collapsed": collapsed[tuple(point[n] for n in by)]} for point in points]


@dataclasses.dataclass
class PathMeasure(Measure[Tables]):
    """A measure along the paths between networks: its value has a row for each path, and points.

    A subclass defines `measure`, which returns {end: rows of paths, "_paths" + end: rows of their
    points, …} with the `end` that `prepare` sets, `draws` and `label`.
    """

    split: str = flag("test", "Split to evaluate on.", choices=("test", "train"))
    bn_stats: str = flag(
        "recompute",
        "Statistics that BatchNorm uses at a point of a line. recompute: mean and variance over "
        "the first 10,000 training examples, without augmentation. interpolate: the running ones "
        "of the two ends, interpolated. endpoint: those of the nearer end.",
        choices=("recompute", "interpolate", "endpoint"),
    )

    # {end of the tag on TensorBoard: column}, and {label: column} of the chart.
    logged: ClassVar[Mapping[str, str]]
    charted: ClassVar[Mapping[str, str]]
    chart: ClassVar[Chart]
    step: ClassVar[str] = "round"  # the column that is TensorBoard's step
    ends: ClassVar[tuple[str, str]]  # what the two ends of a path are

    def prepare(self) -> None:
        """Set the options that paths depend on, the end of the files' names, and titles' words."""
        names = self.asked.keys() & {"points", *USUAL}
        self.told = options_of(self.runs[0], **{name: self.asked[name] for name in names})
        told = {name: self.told[name] for name in USUAL if name in names}
        self.end = "".join(f"_{value}" for name, value in told.items() if value not in USUAL[name])
        self.about = f"{told['split']} split, BatchNorm statistics: {told['bn_stats']}"
        if (aligned := told.get("align", "none")) != "none":
            self.about += f", aligned by {aligned}"

    def draws(self, row: Row, rows: Sequence[Row]) -> bool:
        """Return whether the path of a row is drawn."""
        return True

    def label(self, row: Row) -> str:
        """Return the label of a path in the picture of paths."""
        raise NotImplementedError

    def combine(self, values: list[Tables]) -> Tables:
        """Return the means over the runs' tables of paths, and of points."""
        end, along = self.end, f"_paths{self.end}"
        points = [of_their_paths(tables[end], tables[along], self.by) for tables in values]
        return {
            end: over_runs([tables[end] for tables in values], self.by),
            along: over_runs(points, (*self.by, "alpha")),
        }

    def findings(self, run: RunDir, value: Tables, title: str) -> list[Findings]:
        """Return the tables, the barriers against density, and the paths."""
        from lottery_tf.plots import figures

        along, tag = f"_paths{self.end}", f"{self.name}{self.end}"
        rows, points = value[self.end], group(value[along], self.by)
        chosen = (row for row in rows if self.draws(row, rows))
        drawn = {self.label(row): points[tuple(row[n] for n in self.by)] for row in chosen}
        along_title, last = f"{title}: {self.about}", rows[-1][self.step]
        paths = figures.paths(drawn, columns=QUANTITIES, title=along_title, ends=self.ends)
        densities = ", ".join(f"{row['density']:.2%}" for row in rows if row["collapsed"])
        collapsed = f"; collapsed at density {densities}" if densities else ""
        against = figures.against_density(
            {label: (rows, column) for label, column in self.charted.items()},
            what=self.chart.what,
            percent=True,
            line=self.chart.line,
            title=f"{title}\n{self.about}{collapsed}",
        )
        pictures = {
            f"{tag}/{self.name.removesuffix('s')}": Picture(against, self.end, last),
            f"{tag}/paths": Picture(paths, along, last),
        }
        curves = {f"{tag}{end}": curve(rows, name, self.step) for end, name in self.logged.items()}
        return [Findings(tag, value, pictures, curves)]

    def options_told(self) -> str:
        """Return what the results depend on, in a line below their table."""
        return "(" + ", ".join(f"{name}: {value}" for name, value in self.told.items()) + ")"
