"""Rows of replicates, and means over them; matrices between rounds."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lottery_tf.analysis.runs import Groups, as_groups
from lottery_tf.analysis.statistics import SEEDS, has_collapsed, rows_of_seeds, seed_columns
from lottery_tf.plots import Row
from lottery_tf.pruning import Array
from lottery_tf.runs.rundir import RunDir


def group(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """Return {values of some columns: rows that have them}, in the order of the first rows."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def means(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    """Return the means over rows that agree in some columns, with min and max beside them.

    Rows whose network has collapsed ("collapsed" is 1) are left out of the means, unless all have.
    The column "collapsed" of a mean is the part of its rows that has. Seeds, columns that are not
    numbers in all rows, and those named _min and _max, of earlier means, are left out.

    Returns:
        [{column: mean, column_min: …, column_max: …}], in the order of the first rows.
    """
    averaged = []
    for key, rows_of_key in group(rows, by).items():
        mean = dict(zip(by, key, strict=True))
        sound = [row for row in rows_of_key if not row.get("collapsed")] or rows_of_key
        measured = [n for n in sound[0] if not n.endswith(("_min", "_max")) and n not in SEEDS]
        for name in (n for n in measured if n not in by):
            cells = [row.get(name) for row in (rows_of_key if name == "collapsed" else sound)]
            values = [cell for cell in cells if isinstance(cell, int | float)]
            if len(values) == len(cells):
                mean |= {name: sum(values) / len(values)}
                mean |= {f"{name}_min": min(values), f"{name}_max": max(values)}
        averaged.append(mean)
    return averaged


def over_runs(tables: Sequence[list[Row]], by: Sequence[str]) -> list[Row]:
    """Return the `means` over the tables of several runs, of the rows that all have."""
    keys = [group(table, by).keys() for table in tables]
    shared = [key for key in keys[0] if all(key in others for others in keys)] if keys else []
    rows = group((row for table in tables for row in table), by)
    return means([row for key in shared for row in rows[key]], by)


def seeds_of_runs(runs: Sequence[RunDir]) -> list[Row]:
    """Return `seed_columns` of each run; their paths where nobody recorded different seeds."""
    found = [seed_columns(run.config()) for run in runs]
    different = len({*map(repr, found)}) == len(found)
    return found if different else [{"seed": str(run.path)} for run in runs]


def by_seed(runs: Sequence[RunDir], tables: Iterable[list[Row]]) -> list[Row]:
    """Return the rows of the tables of several runs, with their seeds and "collapsed".

    Unless its measure says whether a row's network has collapsed, metrics.csv does.
    """
    return [
        seeds | row
        for run, seeds, table in zip(runs, seeds_of_runs(runs), tables, strict=True)
        for row in (table if table and "collapsed" in table[0] else marked(run.metrics(), table))
    ]


def over_seeds(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Return the means over the seeds of rows of `by_seed`, as `over_runs`.

    The rows of one seed are returned as they are.
    """
    tables = rows_of_seeds(rows)
    return over_runs(tables, by) if len(tables) > 1 else list(rows)


def of_runs(runs: Sequence[RunDir], tables: Sequence[list[Row]], by: Sequence[str]) -> list[Row]:
    """Return the table of a run alone; of several the means over theirs, as `over_seeds`."""
    return over_seeds(by_seed(runs, tables), by) if len(runs) > 1 else tables[0]


def marked(metrics: Iterable[Row], table: Iterable[Row]) -> list[Row]:
    """Return the rows of a table with "collapsed": whether `metrics` say so of their round."""
    collapsed = {row["round"] for row in metrics if has_collapsed(row)}
    return [row | {"collapsed": int(row["round"] in collapsed)} for row in table]


def over_matrices(matrices: Sequence[Array], *, init: bool = False) -> dict[str, Array]:
    """Return {"mean", "min", "max": matrix} over the matrices of runs, on the rounds that all have.

    They are (rounds, other rounds), with `init` as the last row and column where they have it. A
    NaN, as `without_collapsed` sets, is left out unless all runs have one.
    """
    rows, columns = (min(matrix.shape[axis] for matrix in matrices) - init for axis in (0, 1))
    last = [-1] * init
    places = np.ix_([*range(rows), *last], [*range(columns), *last])
    stacked = np.stack([matrix[places] for matrix in matrices])  # (runs, rows, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of cells that are NaN in all
        mean, least, most = (of(stacked, 0) for of in (np.nanmean, np.nanmin, np.nanmax))
    return {"mean": mean, "min": least, "max": most}


def matrices_of_runs(
    runs: Sequence[RunDir], matrices: Sequence[Array], other: RunDir | None, *, init: bool = False
) -> dict[str, Array]:
    """Return `over_matrices` of runs, without the rounds of theirs or of `other` that collapsed."""
    of_other = other.metrics() if other else None
    pairs = zip(runs, matrices, strict=True)
    sound = [without_collapsed(run.metrics(), matrix, of_other) for run, matrix in pairs]
    return over_matrices(sound, init=init)


def without_collapsed(
    metrics: Sequence[Row], matrix: Array, others: Sequence[Row] | None = None
) -> Array:
    """Return a matrix between rounds, NaN where either network has collapsed.

    It is (rounds, others), with or without the initialization at the end of both, of runs with
    these rows of metrics.csv; by default both are the same.
    """
    of_both = (metrics, metrics if others is None else others)
    rows, columns = ([row["round"] for row in of if has_collapsed(row)] for of in of_both)
    found = matrix.copy()
    found[rows, :] = np.nan
    found[:, columns] = np.nan
    return found


def labelled(matrix: Array, *, init: bool = False) -> list[Row]:
    """Return the rows {round, 0, 1, …} of a matrix; `init` names the last row and column so."""
    rows, columns = ([*range(size - init)] + ["init"] * init for size in matrix.shape)
    return [
        {"round": label} | dict(zip(map(str, columns), map(float, line), strict=True))
        for label, line in zip(rows, matrix, strict=True)
    ]


def side_by_side(runs: RunDir | Groups, rows_of: Callable[[RunDir], list[Row]]) -> list[Row]:
    """Return rows of {run: label} and the table of each run; of replicates those of `by_seed`.

    `rows_of` gives the table of a run.
    """
    groups, rows = as_groups(runs), []
    alone = all(len(of_label) == 1 for of_label in groups.values())
    for label, of_label in groups.items():
        tables = [rows_of(run) for run in of_label]
        rows += [
            {"run": label} | row for row in (tables[0] if alone else by_seed(of_label, tables))
        ]
    return rows


def means_beside(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Return the means over the seeds of each label, of the rows of `side_by_side`."""
    labels = group(rows, ("run",)).values()
    return [row for of_label in labels for row in over_seeds(of_label, ("run", *by))]
