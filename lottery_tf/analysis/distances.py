"""The distances between all rounds of a run, with the initialization as last row and column.

NumPy and matplotlib only. `other` is a run whose rounds are the columns instead, without the
initialization; `cache` holds what was measured before, and by default all is measured.
"""

import dataclasses
from collections.abc import Sequence
from math import nan

import numpy as np

from lottery_tf.analysis import products
from lottery_tf.analysis.cache import Cache, is_number
from lottery_tf.analysis.products import METRICS, Products
from lottery_tf.analysis.replicates import labelled, over_matrices, without_collapsed
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Runs, check_same_experiment, metrics_with
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, figures
from lottery_tf.pruning import Array
from lottery_tf.runs.rounds import check_files, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

LABELS = {
    "angular": "angular distance: 2 angle / pi, so 1 is 90 degrees",
    "cosine": "cosine distance: 1 - cosine",
    "euclidean": "Euclidean distance",
}
SUCCESSIVE = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "to_previous": ("to r - 1", "{:.3f}"),
    "to_second_previous": ("to r - 2", "{:.3f}"),
    "to_init": ("to init", "{:.3f}"),
}


def between_rounds(run: RunDir, other: RunDir | None = None, *, metric: str = "angular",
                   cache: Cache | None = None) -> list[Row]:  # fmt: skip
    """Rows of {round, 0, 1, …, init}: the distance of each round to each, and to its start.

    Raises:
        InputError: a file is missing or damaged, the runs do not go together, or the run has one
            round alone.
    """
    matrix = matrices(run, other, [metric], cache or Cache())[metric]
    return labelled(matrix, init=not other)


def successive(run: RunDir, *, metric: str = "angular", cache: Cache | None = None) -> list[Row]:
    """Rows of {round, density, test_accuracy, to_previous, to_second_previous, to_init}."""
    values = with_initialization(*products_between(run, run, cache or Cache()), metric)
    return successive_of(metrics_with(run, "test_accuracy"), values)


def report_distances(
    runs: Runs, metrics: Sequence[str], other: RunDir | None, output: Output
) -> tuple[list[Row], Columns]:
    """Writes, draws and logs the matrices of runs, and of all as replicates.

    Returns:
        (rows, columns) to print: the distances to the rounds before and to the start; to another
        run, those of the same rounds.
    """

    def measure(run, cache):
        return {(metric, ""): m for metric, m in matrices(run, other, metrics, cache).items()}

    def combine(values):
        of_other = other.metrics() if other else None
        return {
            (metric, which): matrix
            for metric in metrics
            for which, matrix in over_matrices(
                [
                    without_collapsed(run.metrics(), of_run[metric, ""], of_other)
                    for run, of_run in zip(runs, values, strict=True)
                ],
                init=not other,
            ).items()
        }

    def findings(run, values, title):
        return [
            _findings(run, other, *key, m, f"{key[1]} of {len(runs)} runs" if key[1] else title)
            for key, m in values.items()
        ]

    values = report("distances", runs, output, measure, findings, combine)
    matrix = next(iter(values.values()))  # of replicates the mean is the first
    if not other:
        columns = {"to_previous": (f"{metrics[0]} to r - 1", "{:.3f}")}
        return successive_of(metrics_with(runs[0], "test_accuracy"), matrix), SUCCESSIVE | columns
    rows = [
        {"round": row["round"], "density": row["density"], "distance": matrix[i, i]}
        for i, row in enumerate(runs[0].metrics()[: min(matrix.shape)])
    ]
    title = f"{metrics[0]} to the same round of {other.path.name}"
    return rows, SUCCESSIVE | {"distance": (title, "{:.3f}")}


def matrices(run: RunDir, other: RunDir | None, metrics: Sequence[str],
             cache: Cache) -> dict[str, Array]:  # fmt: skip
    """{metric: matrix}: (rounds, other's rounds), or (rounds + 1, rounds + 1) with init last."""
    check_same_experiment([run, other])
    if not other and run.finished_rounds() < 2:
        raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
    pairs, starts = products_between(run, other or run, cache)
    return {
        metric: METRICS[metric](pairs) if other else with_initialization(pairs, starts, metric)
        for metric in metrics
    }


def products_between(run: RunDir, other: RunDir, cache: Cache) -> tuple[Products, Products]:
    """The Products of every round of a run with those of another, or with its own.

    Returns:
        (Products of (rounds, other's rounds), Products of (rounds,) with the initializations).
    """
    rows = {r: r.fingerprint() for r in finished(run)}
    columns = rows if other is run else {r: r.fingerprint() for r in finished(other)}

    def known(key, to):
        return cache.find([key, to], _is_products)

    if new := _to_measure(rows, columns, known, other is run):
        _measure_new(new, columns, cache, other is run)
    pairs = [[known(key, to) for to in columns.values()] for key in rows.values()]
    starts = [known(key, "init") for key in rows.values()]
    return Products(*np.moveaxis(np.array(pairs), 2, 0)), Products(*np.array(starts).T)


def _to_measure(rows, columns, known, of_one_run):
    """The {FinishedRound: key} of rows with a pair that is not known, and that no other gives."""
    needed = {r: ["init", key] if of_one_run else ["init", *columns.values()]
              for r, key in rows.items()}  # fmt: skip
    new = {r: key for r, key in rows.items() if any(known(key, to) is None for to in needed[r])}
    # A new round of one run is measured with all the others, and so they with it.
    old = [key for r, key in rows.items() if r not in new] if of_one_run else []
    return new | {
        r: key
        for r, key in rows.items()
        if key in old and any(known(key, to) is None for to in old)
    }


def _is_products(value):
    """Whether a value that a cache held are the five sums of a pair; older versions kept three."""
    return isinstance(value, list) and len(value) == 5 and all(map(is_number, value))


def _measure_new(rows, columns, cache, of_one_run):
    """Puts the sums of {FinishedRound: key} rows with columns into the cache."""
    check_files(list(dict.fromkeys([*rows, *columns])))
    size = sum(int(np.prod(shape)) for shape in next(iter(rows)).shapes().values())
    with console.progress(size, "weights") as bar:
        measured = products.products_of_rounds(
            list(rows), list(columns), lambda done: bar.update(done - bar.n)
        )
    pairs, starts = (np.stack(dataclasses.astuple(p), -1).tolist() for p in measured)
    for key, of_row, start in zip(rows.values(), pairs, starts, strict=True):
        cache.keep([key, "init"], start)
        for to, (dot, row_square, column_square, *differences) in zip(
            columns.values(), of_row, strict=True
        ):
            cache.keep([key, to], [dot, row_square, column_square, *differences])
            if of_one_run:
                cache.keep([to, key], [dot, column_square, row_square, *differences])
    cache.save()


def with_initialization(pairs: Products, starts: Products, metric: str) -> Array:
    """A matrix of (rounds + 1, rounds + 1): last the distances to what each round started from."""
    count = len(starts.dots)
    values = np.zeros((count + 1, count + 1))
    values[:count, :count] = METRICS[metric](pairs)
    values[:count, count] = values[count, :count] = METRICS[metric](starts)
    np.fill_diagonal(values, 0)
    return values


def _findings(run, other, metric, which, values, title):
    """The Findings of a matrix; `which` is "" for a run's own, else mean, min or max."""
    end = "".join(f"_{part}" for part in (metric, which) if part)
    end += f"_to_{other.path.name}" if other else ""
    tables, name = {end: labelled(values, init=not other)}, f"distances{end}"
    if which in ("min", "max"):
        return Findings(name, tables)
    top = 1.0 if metric != "euclidean" else float(np.nanmax(values)) or 1.0
    pictures = {
        f"distances/{name}{of_scale}": (
            run.finished_rounds() - 1,
            end + of_scale,
            figures.matrix(
                values, run, other, what=LABELS[metric], title=title, scale=scale, init=not other
            ),
        )
        for of_scale, scale in (("", (0.0, top)), ("_own_scale", _own_scale(values, not other)))
    }
    rows = [] if other else successive_of(metrics_with(run, "test_accuracy"), values)
    curves = {
        f"distances/{metric} {column}": (column, [(r["round"], r[column]) for r in rows])
        for column in (() if other else ("to_previous", "to_init"))
    }
    return Findings(name, tables, pictures, curves)


def _own_scale(values, of_one_run):
    """(least, most) of a matrix, but for the zeros of each round to itself."""
    others = ~np.eye(*values.shape, dtype=bool) if of_one_run else np.ones(values.shape, bool)
    some = values[others & np.isfinite(values)]
    return (float(some.min()), float(some.max())) if some.size else (0.0, 1.0)


def successive_of(rows: list[Row], values: Array) -> list[Row]:
    """The rows of `successive`, from a run's rows of metrics.csv and a matrix with init last."""
    found = []
    for metrics in rows[: len(values) - 1]:
        round = metrics["round"]
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        row["to_previous"] = float(values[round, round - 1]) if round else nan
        row["to_second_previous"] = float(values[round, round - 2]) if round > 1 else nan
        found.append(row | {"to_init": float(values[round, -1])})
    return found
