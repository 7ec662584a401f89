"""The straight path between two networks: how it is evaluated, and its barrier.

NumPy and matplotlib only; what `evaluator` gives imports TensorFlow when it is first called.
"""

import functools

import numpy as np

from lottery_tf.analysis import replicates
from lottery_tf.analysis.reports import Findings, report
from lottery_tf.analysis.runs import bn_stats_of, check_at_least
from lottery_tf.output import figures

MEASURES = {"error": ("error (%)", True), "loss": ("cross-entropy", False)}
# Options that a file's name need not tell.
USUAL = {"split": ("test",), "bn_stats": ("recompute", "none"), "align": ("none",)}


def barrier(values) -> tuple[float, float]:
    """The barriers of values on a path: (above the mean of the ends, above the larger end)."""
    values = np.asarray(values, np.float64)
    ends, highest = (values[0], values[-1]), values.max()
    return float(highest - sum(ends) / 2), float(highest - max(ends))


def summarize(points) -> dict:
    """{error_barrier, error_barrier_larger_end, and those of the loss} of the rows of a path."""
    row = {}
    for measure in MEASURES:
        mean, larger = barrier([point[measure] for point in points])
        row |= {f"{measure}_barrier": mean, f"{measure}_barrier_larger_end": larger}
    return row


def evaluator(engine, *, points, split, bn_stats, align="none"):
    """A function of two networks' weights -> rows of {alpha, loss, error} of the path between.

    Args:
        engine: a function that gives an Engine; it is called, once, when first needed.
        points, split, bn_stats, align: as the flags.
    """

    @functools.cache
    def paths():
        of = engine()  # it imports TensorFlow, without its messages
        from lottery_tf.analysis.path_evaluator import PathEvaluator

        return PathEvaluator(of, points=points, split=split, bn_stats=bn_stats)

    def evaluate(start, end):
        if align == "permutation":
            network = paths().network
            from lottery_tf.analysis import alignment, symmetries

            end = alignment.align(symmetries.find(network), start, end)
        return paths().evaluate(start, end)

    return evaluate


def options_of(run, *, points, split="test", bn_stats="recompute", **others) -> dict:
    """The options that paths depend on, checked.

    The statistics are "none" where there is no BatchNorm.
    """
    check_at_least(2, points=points)
    return {"points": points, "split": split, "bn_stats": bn_stats_of(run, bn_stats)} | others


def suffix_of(options) -> str:
    """The part of a file's name that tells the options that are not the usual ones."""
    told = {name: options[name] for name in USUAL if name in options}
    return "".join(f"_{value}" for name, value in told.items() if value not in USUAL[name])


def about_options(options) -> str:
    """The part of a title that tells where and how paths were evaluated."""
    about = f"{options['split']} split, BatchNorm statistics: {options['bn_stats']}"
    if options.get("align", "none") != "none":
        about += f", aligned by {options['align']}"
    return about


def report_paths(name, end, runs, output, measure, *, by, step, about, shown, figure, lines):
    """Writes, draws and logs what was measured along paths; returns the rows, of all as replicates.

    Args:
        name, runs, output: as of reports.report.
        end: of the files' names.
        measure: a function of (run, cache) -> {end: rows, "_paths" + end: their points, …}.
        by: the columns that tell a row's path from others.
        step: the column that is TensorBoard's step.
        about: what titles tell of all.
        shown: {end of the tag on TensorBoard: column}.
        figure: a function of (rows, title=…) -> the figure against density.
        lines: (a function of rows -> {label: row} of the paths to draw, what their ends are).
    """
    paths, tag = f"_paths{end}", f"{name}{end}"

    def combine(values):
        return {
            part: replicates.over_runs([tables[part] for tables in values], columns)
            for part, columns in ((end, by), (paths, (*by, "alpha")))
        }

    def findings(run, tables, title):
        rows, points = tables[end], replicates.group(tables[paths], by)
        panels = {label: points[tuple(r[c] for c in by)] for label, r in lines[0](rows).items()}
        drawn = {
            (name.removesuffix("s"), end): figure(rows, title=f"{title}\n{about}"),
            ("paths", paths): figures.paths(
                panels, columns=MEASURES, title=f"{title}: {about}", ends=lines[1]
            ),
        }
        pictures = {
            f"{tag}/{what}": (rows[-1][step], of_file, drawn[what, of_file])
            for what, of_file in drawn
        }
        curves = {tag + more: [(row[step], row[c]) for row in rows] for more, c in shown.items()}
        return [Findings(tag, tables, pictures, curves)]

    return report(name, runs, output, measure, findings, combine)[end]
