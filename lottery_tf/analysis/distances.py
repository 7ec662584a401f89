"""The distances between all rounds of a run, with the initialization as last row and column.

NumPy and matplotlib only.
"""

from math import nan

import numpy as np

from lottery_tf.analysis import products, replicates
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.products import METRICS, Products
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import check_same_experiment
from lottery_tf.errors import InputError
from lottery_tf.output import figures
from lottery_tf.store.rounds import check_files, finished
from lottery_tf.store.rundir import RunDir
from lottery_tf.terminal import console

LABELS = {
    "angular": "angular distance: 2 angle / pi",
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


def between_rounds(
    run: RunDir,
    other: RunDir | None = None,
    *,
    metric: str = "angular",
    cache: Cache | None = None,
) -> list[dict]:
    """Rows of {round, 0, 1, …, init}: the distance of each round to each, and to its start.

    Args:
        run: RunDir.
        other: RunDir whose rounds are the columns instead, without init.
        metric: a key of products.METRICS.
        cache: Cache of what was measured before; by default all is measured.

    Raises:
        InputError: a file is missing or damaged, the runs do not go together, or the run has one
            round alone.
    """
    return _labelled(matrices(run, other, [metric], cache or Cache())[metric], init=not other)


def successive(run: RunDir, *, metric: str = "angular", cache: Cache | None = None) -> list[dict]:
    """Rows of {round, density, test_accuracy, to_previous, to_second_previous, to_init}."""
    values = with_initialization(*products_between(run, run, cache or Cache()), metric)
    return _successive(run, values)


def report_distances(runs, metrics, other, output: Output):
    """Writes, draws and logs the matrices of RunDirs, and of all as replicates.

    Returns:
        (rows, columns) to print: the distances to the rounds before and to the start; to another
        run, those of the same rounds.
    """

    def measure(run, cache):
        return {(metric, ""): m for metric, m in matrices(run, other, metrics, cache).items()}

    def combine(values):
        return {
            (metric, which): matrix
            for metric in metrics
            for which, matrix in replicates.over_matrices(
                [of_run[metric, ""] for of_run in values], init=not other
            ).items()
        }

    def findings(run, values, title):
        return [
            _findings(
                run, other, *key, matrix, f"{key[1]} of {len(runs)} runs" if key[1] else title
            )
            for key, matrix in values.items()
        ]

    values = report("distances", runs, output, measure, findings, combine)
    matrix = next(iter(values.values()))  # of replicates the mean is the first
    return _to_print(runs[0], other, metrics[0], matrix)


def _to_print(run, other, metric, matrix):
    if not other:
        title = f"{metric} to r - 1"
        return _successive(run, matrix), SUCCESSIVE | {"to_previous": (title, "{:.3f}")}
    rows = [
        {"round": row["round"], "density": row["density"], "distance": matrix[i, i]}
        for i, row in enumerate(run.metrics()[: min(matrix.shape)])
    ]
    columns = {name: SUCCESSIVE[name] for name in ("round", "density")}
    title = f"{metric} to the same round of {other.path.name}"
    return rows, columns | {"distance": (title, "{:.3f}")}


def matrices(run, other, metrics, cache) -> dict[str, np.ndarray]:
    """{metric: matrix}: (rounds, other's rounds), or (rounds + 1, rounds + 1) with init last."""
    check_same_experiment([run, other] if other else [run])
    if not other and run.finished_rounds() < 2:
        raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
    pairs, starts = products_between(run, other or run, cache)
    return {
        metric: METRICS[metric](pairs) if other else with_initialization(pairs, starts, metric)
        for metric in metrics
    }


def products_between(run, other, cache):
    """The Products of every round of a run with those of another, or with its own.

    Args:
        run, other: RunDirs.
        cache: Cache that holds what was measured before, and gets what is new.

    Returns:
        (Products of (rounds, other's rounds), Products of (rounds,) with the initializations).
    """
    rows = finished(run)
    columns = rows if other is run else finished(other)
    row_keys, column_keys = ([r.fingerprint() for r in rounds] for rounds in (rows, columns))
    # A round that was measured with itself was so with all the rounds of its run then.
    new = [
        (row, key)
        for row, key in zip(rows, row_keys, strict=True)
        for needed in ([key] if other is run else column_keys,)
        if any(cache.find([key, to]) is None for to in needed)
    ]
    if new:
        _measure_new(dict(new), dict(zip(columns, column_keys, strict=True)), cache, other is run)
    pairs = [[cache.find([key, to]) for to in column_keys] for key in row_keys]
    starts = [cache.find([key, "init"]) for key in row_keys]
    return Products(*np.moveaxis(np.array(pairs), 2, 0)), Products(*np.array(starts).T)


def _measure_new(rows, columns, cache, of_one_run):
    """Puts the sums of {FinishedRound: key} rows with columns into the cache."""
    check_files(list(dict.fromkeys([*rows, *columns])))
    size = sum(int(np.prod(shape)) for shape in next(iter(rows)).shapes().values())
    with console.progress(size, "weights") as bar:
        pairs, starts = products.products_of_rounds(
            list(rows), list(columns), lambda done: bar.update(done - bar.n)
        )
    for i, key in enumerate(rows.values()):
        cache.keep([key, "init"], starts.sums(i))
        for j, to in enumerate(columns.values()):
            cache.keep([key, to], pairs.sums((i, j)))
            if of_one_run:
                dot, row_square, column_square = pairs.sums((i, j))
                cache.keep([to, key], [dot, column_square, row_square])
    cache.save()


def with_initialization(pairs, starts, metric) -> np.ndarray:
    """A matrix of (rounds + 1, rounds + 1): last the distances to what each round started from."""
    count = len(starts.dots)
    values = np.zeros((count + 1, count + 1))
    values[:count, :count] = METRICS[metric](pairs)
    values[:count, count] = values[count, :count] = METRICS[metric](starts)
    np.fill_diagonal(values, 0)
    return values


def _labelled(values, *, init):
    labels = [[*range(size - init)] + ["init"] * init for size in values.shape]
    return replicates.labelled(values, *labels)


def _findings(run, other, metric, which, values, title):
    """The Findings of a matrix; `which` is "" for a run's own, else mean, min or max."""
    end = (
        f"_{metric}" + (f"_{which}" if which else "") + (f"_to_{other.path.name}" if other else "")
    )
    tables, name = {end: _labelled(values, init=not other)}, f"distances{end}"
    if which in ("min", "max"):
        return Findings(name, tables)
    init = [] if other else ["init"]
    rows, columns = (
        figures.densities(of)[: size - len(init)] + init
        for of, size in zip((run, other or run), values.shape, strict=True)
    )
    top = 1.0 if metric != "euclidean" else float(np.nanmax(values)) or 1.0
    title += f" (rows) and {other.path.name} (columns)" if other else ""
    what = LABELS[metric]
    figure = figures.matrix(values, rows, columns, what=what, limits=(0, top), title=title)
    curves = {
        f"distances/{metric} {column}": [(r["round"], r[column]) for r in _successive(run, values)]
        for column in (() if other else ("to_previous", "to_init"))
    }
    pictures = {f"distances/{name}": (run.finished_rounds() - 1, end, figure)}
    return Findings(name, tables, pictures, curves)


def _successive(run, values):
    rows = []
    for metrics in run.metrics()[: len(values) - 1]:
        round = metrics["round"]
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        row["to_previous"] = float(values[round, round - 1]) if round else nan
        row["to_second_previous"] = float(values[round, round - 2]) if round > 1 else nan
        rows.append(row | {"to_init": float(values[round, -1])})
    return rows
