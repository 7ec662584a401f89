"""The straight path between two networks: how it is evaluated, and its barrier.

NumPy and matplotlib only; what `evaluator` gives imports TensorFlow when it is first called.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lottery_tf.analysis import replicates
from lottery_tf.analysis.cache import Cache, Fits, rows_of
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Runs, check_at_least
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Weights, collapse
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

Evaluate = Callable[[Iterable[Weights]], list[Row]]
MEASURES = {"error": ("error (%)", True), "loss": ("cross-entropy", False)}
POINT = ("alpha", "loss", "error", "collapsed")  # columns of a point of a path
# Options that a file's name need not tell.
USUAL = {"split": ("test",), "bn_stats": ("recompute", "none"), "align": ("none",)}


def barrier(values: Sequence[float]) -> tuple[float, float]:
    """The barriers of values on a path: (above the mean of the ends, above the larger end)."""
    ends, highest = (values[0], values[-1]), max(values)
    return float(highest - sum(ends) / 2), float(highest - max(ends))


def summarize(points: Sequence[Row]) -> Row:
    """{error_barrier, error_barrier_larger_end, those of the loss, collapsed} of a path's rows.

    "collapsed" is 1 if one of its ends is.
    """
    row: Row = {}
    for measure in MEASURES:
        mean, larger = barrier([point[measure] for point in points])
        row |= {f"{measure}_barrier": mean, f"{measure}_barrier_larger_end": larger}
    return row | {"collapsed": max(points[0]["collapsed"], points[-1]["collapsed"])}


def lacks_a_layer(*rounds: FinishedRound) -> bool:
    """Whether a layer of one of the networks has no weight left."""
    return any(collapse.of_masks(finished_round.masks()) for finished_round in rounds)


def fits(points: int) -> Fits:
    """Whether a value that a cache held is what an Evaluate gives of so many points."""
    numbers = rows_of(*POINT, count=points)
    return lambda rows: numbers(rows) and all(row["collapsed"] in (0, 1) for row in rows)


def evaluator(engine: Callable[[], Any], *, points: int, split: str, bn_stats: str,
              align: str = "none") -> Evaluate:  # fmt: skip
    """A function of the two ends of a path -> rows of POINT.

    Args:
        engine: gives an Engine; it is called, once, when first needed.
        points, split, bn_stats, align: as the flags.
    """

    @functools.cache
    def paths():
        of = engine()  # it imports TensorFlow, without its messages
        from lottery_tf.analysis.path_evaluator import PathEvaluator

        return PathEvaluator(of, points=points, split=split, bn_stats=bn_stats)

    def evaluate(ends):
        start, end = ends
        if align == "permutation":
            network = paths().network
            from lottery_tf.analysis import alignment, symmetries

            end = alignment.align(symmetries.find(network), start, end)
        return paths().evaluate(start, end)

    return evaluate


def options_of(run: RunDir, *, points: int, split: str = "test", bn_stats: str = "recompute",
               **others: Any) -> dict[str, Any]:  # fmt: skip
    """The options that paths depend on, checked.

    The statistics are "none" where there is no BatchNorm.
    """
    check_at_least(2, points=points)
    if not any(p.endswith("/moving_variance") for p in FinishedRound(run.path, 0).shapes("final")):
        bn_stats = "none"
    return {"points": points, "split": split, "bn_stats": bn_stats} | others


def suffix_of(options: Mapping[str, Any]) -> str:
    """The part of a file's name that tells the options that are not the usual ones."""
    told = {name: options[name] for name in USUAL if name in options}
    return "".join(f"_{value}" for name, value in told.items() if value not in USUAL[name])


def about_options(options: Mapping[str, Any]) -> str:
    """The part of a title that tells where and how paths were evaluated."""
    about = f"{options['split']} split, BatchNorm statistics: {options['bn_stats']}"
    aligned = options.get("align", "none")
    return about if aligned == "none" else f"{about}, aligned by {aligned}"


def report_paths(name: str, end: str, runs: Runs, output: Output,
                 measure: Callable[[RunDir, Cache], dict[str, list[Row]]], *,
                 by: Sequence[str], step: str, about: str, curves: Mapping[str, str],
                 shown: Mapping[str, str], figure: Mapping[str, Any], label: str,
                 ends: tuple[str, str],
                 choose: Callable[[list[Row]], list[Row]] = list) -> list[Row]:  # fmt: skip
    """Writes, draws and logs what was measured along paths; returns the rows, of all as replicates.

    Args:
        name, runs, output: as of reports.report.
        end: of the files' names.
        measure: of (run, cache) -> {end: rows, "_paths" + end: their points, …}.
        by: the columns that tell a row's path from others.
        step: the column that is TensorBoard's step.
        about: what titles tell of all.
        curves: {end of the tag on TensorBoard: column}.
        shown: {label: column} of the figure against density.
        figure: what else figures.against_density is to know.
        label: of a path in the figure of paths, with a row's columns in braces.
        ends: what the ends of the paths are.
        choose: of rows -> those whose paths are drawn.
    """
    paths, tag = f"_paths{end}", f"{name}{end}"
    combine = functools.partial(_over_runs, {end: by, paths: (*by, "alpha")})

    def findings(run, tables, title):
        rows, points = tables[end], replicates.group(tables[paths], by)
        columns = {what: (rows, column) for what, column in shown.items()}
        panels = {label.format(**r): points[tuple(r[c] for c in by)] for r in choose(rows)}
        along = figures.paths(panels, columns=MEASURES, title=f"{title}: {about}", ends=ends)
        title, last = f"{title}\n{about}{_about_collapsed(rows)}", rows[-1][step]
        against = figures.against_density(columns, percent=True, title=title, **figure)
        pictures = {
            f"{tag}/{name.removesuffix('s')}": (last, end, against),
            f"{tag}/paths": (last, paths, along),
        }
        logged = {
            f"{tag}{more}": (column, [(row[step], row[column]) for row in rows])
            for more, column in curves.items()
        }
        return [Findings(tag, tables, pictures, logged)]

    return report(name, runs, output, measure, findings, combine)[end]


def _about_collapsed(rows):
    """The part of a title that tells where networks have collapsed."""
    densities = ", ".join(f"{row['density']:.2%}" for row in rows if row["collapsed"])
    return f"; collapsed at density {densities}" if densities else ""


def _over_runs(parts, values):
    """Each part of the runs' tables as replicates, {end: rows}; parts are {end: columns}."""
    (end, by), (along, by_point) = parts.items()
    points = [of_their_paths(tables[end], tables[along], by) for tables in values]
    return {
        end: replicates.over_runs([tables[end] for tables in values], by),
        along: replicates.over_runs(points, by_point),
    }


def of_their_paths(rows: list[Row], points: list[Row], by: Sequence[str]) -> list[Row]:
    """Return the points of paths with "collapsed" of the whole path, so that means take it whole.

    Between two good networks lie networks at chance: they are the barrier.

    Args:
        rows: one for each path.
        points: of these paths.
        by: the columns that tell one path from others.
    """
    collapsed = {tuple(row[name] for name in by): row["collapsed"] for row in rows}
    return [point | {"collapsed": collapsed[tuple(point[n] for n in by)]} for point in points]
