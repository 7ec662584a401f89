"""The distances between all rounds of a run, with the initialization as last row and column.

NumPy and matplotlib only.
"""

from math import nan

import numpy as np

from lottery_tf.analysis import distances, rounds, tool
from lottery_tf.analysis.distances import METRICS, Products
from lottery_tf.analysis.results import fingerprint
from lottery_tf.analysis.rounds import Network
from lottery_tf.errors import InputError
from lottery_tf.output import figures

LABELS = {
    "angular": "angular distance: 2 angle / pi",
    "cosine": "cosine distance: 1 - cosine",
    "euclidean": "Euclidean distance",
}


def report(runs, metrics, other=None):
    """Writes, draws, logs and prints the matrices of some runs, and of all as replicates.

    Args:
        runs: RunDirs.
        metrics: keys of distances.METRICS.
        other: RunDir whose rounds are the columns; None for the run's own.

    Raises:
        InputError: a run has one round alone, or runs do not go together.
    """
    rounds.check_same_experiment([*runs, other] if other else runs)
    found = {metric: [] for metric in metrics}
    for run in runs:
        if not other and run.finished_rounds() < 2:
            raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
        results = tool.results(run, "distances", runs)
        pairs, starts = measure(run, other or run, results)
        for metric in metrics:
            values = METRICS[metric](pairs) if other else with_initialization(pairs, starts, metric)
            found[metric].append(values)
            suffix = f"_{metric}" + (f"_to_{other.path.name}" if other else "")
            picture = write(results, suffix, metric, values, run, other)
            log(run, f"distances{suffix}", metric, values, picture, other)
    if len(runs) > 1:
        write_replicates(runs, found, other)
        print(f"Mean of {len(runs)} runs; accuracies of {runs[0].path}:")
    show(runs[0], metrics[0], np.mean(trimmed(found[metrics[0]], init=other is None), 0), other)


def measure(run, other, results):
    """The Products of every round of a run with those of another, or with its own.

    Args:
        run, other: RunDirs.
        results: Results that hold what was measured before, and get what is new.

    Returns:
        (Products of (rounds, other's rounds), Products of (rounds,) with the initializations).
    """
    rows = [Network(str(run.path), r) for r in range(run.finished_rounds())]
    columns = [Network(str(other.path), r) for r in range(other.finished_rounds())]
    columns = rows if other is run else columns
    row_keys, column_keys = ([fingerprint(n) for n in networks] for networks in (rows, columns))
    # A round that was measured with itself was so with all the rounds of its run then.
    new = [
        row
        for row, key in zip(rows, row_keys, strict=True)
        for needed in ([key] if other is run else column_keys,)
        if any(results.find((), [key, to]) is None for to in needed)
    ]
    if new:
        rounds.check_files(list(dict.fromkeys([*new, *columns])))
        size = sum(int(np.prod(shape)) for shape in new[0].shapes().values())
        with tool.progress(size, "weights") as bar:
            pairs, starts = distances.measure(new, columns, lambda done: bar.update(done - bar.n))
        for i, row in enumerate(new):
            key = row_keys[rows.index(row)]
            results.keep((), [key, "init"], _entry(starts, i))
            for j, to in enumerate(column_keys):
                results.keep((), [key, to], _entry(pairs, (i, j)))
                if other is run:
                    dot, own, others = _entry(pairs, (i, j))
                    results.keep((), [to, key], [dot, others, own])
        results.save()
    all_pairs = [[results.find((), [key, to]) for to in column_keys] for key in row_keys]
    all_starts = [results.find((), [key, "init"]) for key in row_keys]
    return Products(*np.moveaxis(np.array(all_pairs), 2, 0)), Products(*np.array(all_starts).T)


def _entry(products, index):
    sums = products.dots, products.row_squares, products.column_squares
    return [float(array[index]) for array in sums]


def with_initialization(pairs, starts, metric):
    """A matrix of (rounds + 1, rounds + 1): last the distances to what each round started from."""
    count = len(starts.dots)
    values = np.zeros((count + 1, count + 1))
    values[:count, :count] = METRICS[metric](pairs)
    values[:count, count] = values[count, :count] = METRICS[metric](starts)
    np.fill_diagonal(values, 0)
    return values


def write(results, suffix, metric, values, run, other=None, *, draw=True, name=None):
    """Writes a matrix as CSV, and draws it; returns the picture's path."""
    sizes = values.shape if other else [size - 1 for size in values.shape]
    init = [] if other else ["init"]
    rows, columns = (list(range(size)) + init for size in sizes)
    results.write_matrix(values, rows, columns, suffix)
    if not draw:
        return None
    top = 1.0 if metric != "euclidean" else float(np.nanmax(values)) or 1.0
    return results.draw(
        figures.matrix,
        values,
        densities(run)[: sizes[0]] + init,
        densities(other or run)[: sizes[1]] + init,
        suffix=suffix,
        what=LABELS[metric],
        limits=(0, top),
        title=(name or run.path.name)
        + (f" (rows) and {other.path.name} (columns)" if other else ""),
        pdf=tool.PDF.value,
    )


def densities(run):
    """The density of each round in percent, as labels."""
    return [f"{100 * row['density']:.3g}" for row in run.metrics()]


SUCCESSIVE = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "to_previous": ("to r - 1", "{:.3f}"),
    "to_second_previous": ("to r - 2", "{:.3f}"),
    "to_init": ("to init", "{:.3f}"),
}


def successive(run, values):
    """Rows of {round, density, test_accuracy, to_previous, to_second_previous, to_init}."""
    rows = []
    for metrics in run.metrics()[: len(values) - 1]:
        round = metrics["round"]
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        row["to_previous"] = float(values[round, round - 1]) if round else nan
        row["to_second_previous"] = float(values[round, round - 2]) if round > 1 else nan
        rows.append(row | {"to_init": float(values[round, -1])})
    return rows


def log(run, name, metric, values, picture, other):
    """Adds the picture and the distances to the round before to the run's TensorBoard."""
    scalars = {}
    for column in () if other else ("to_previous", "to_init"):
        points = [(row["round"], row[column]) for row in successive(run, values)]
        scalars[f"distances/{metric} {column}"] = points
    images = {f"distances/{picture.stem}": (run.finished_rounds() - 1, picture)}
    tool.log(run, name, scalars=scalars, images=images)


def write_replicates(runs, found, other):
    """Writes and draws the mean over the runs, and writes the least and the most."""
    results = tool.combined("distances", runs)
    for metric, matrices in found.items():
        for name, values in summaries(matrices, init=other is None).items():
            write(
                results,
                f"_{metric}_{name}" + (f"_to_{other.path.name}" if other else ""),
                metric,
                values,
                runs[0],
                other,
                draw=name == "mean",
                name=f"{name} of {len(runs)} runs",
            )


def summaries(matrices, *, init):
    """{"mean", "min", "max": matrix} over the matrices of runs, on the rounds that all have."""
    stacked = trimmed(matrices, init=init)
    return {"mean": stacked.mean(0), "min": stacked.min(0), "max": stacked.max(0)}


def trimmed(matrices, *, init):
    """The matrices of runs on the rounds that all have, (runs, rows, columns)."""
    rows, columns = (min(matrix.shape[axis] for matrix in matrices) - init for axis in (0, 1))
    last = [-1] * init
    return np.stack([m[np.ix_([*range(rows), *last], [*range(columns), *last])] for m in matrices])


def show(run, metric, values, other):
    """Prints the distances to the rounds before and to the start; to another run, the diagonal."""
    if other:
        rows = [
            {"round": row["round"], "density": row["density"], "distance": values[i, i]}
            for i, row in enumerate(run.metrics()[: min(values.shape)])
        ]
        columns = {name: SUCCESSIVE[name] for name in ("round", "density")}
        columns |= {"distance": (f"{metric} to the same round of {other.path.name}", "{:.3f}")}
    else:
        rows = successive(run, values)
        columns = SUCCESSIVE | {"to_previous": (f"{metric} to r - 1", "{:.3f}")}
    tool.print_table(rows, columns)
