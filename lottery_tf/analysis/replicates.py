"""Means over replicates, of rows and of matrices between rounds."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lottery_tf.analysis.statistics import has_collapsed
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
    The column "collapsed" of a mean is the part of its rows that has.

    Args:
        rows: columns that are not numbers in all of them are left out, as are those named _min and
            _max, of earlier means.
        by: the columns, as ("round",).

    Returns:
        [{column: mean, column_min: …, column_max: …}], in the order of the first rows.
    """
    averaged = []
    for key, rows_of_key in group(rows, by).items():
        mean = dict(zip(by, key, strict=True))
        sound = [row for row in rows_of_key if not row.get("collapsed")] or rows_of_key
        for name in (name for name in sound[0] if name not in by):
            averaged_rows = rows_of_key if name == "collapsed" else sound
            cells = (row.get(name) for row in averaged_rows)
            values = [cell for cell in cells if isinstance(cell, int | float)]
            of_all = len(values) == len(averaged_rows)
            if of_all and not name.endswith(("_min", "_max")):
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


def of_runs(runs: Sequence[RunDir], tables: Sequence[list[Row]], by: Sequence[str]) -> list[Row]:
    """Return the table of a run alone; of several the means over theirs, as `over_runs`.

    A row of a round whose network has collapsed is left out of the means, whatever it measures.

    Args:
        runs: the replicates.
        tables: of each, rows with the column "round".
        by: the columns, as ("round",).
    """
    if len(runs) == 1:
        return tables[0]
    pairs = zip(runs, tables, strict=True)
    return over_runs([marked(run.metrics(), table) for run, table in pairs], by)


def marked(metrics: Iterable[Row], table: Iterable[Row]) -> list[Row]:
    """Return the rows of a table with the column "collapsed": whether their round has.

    Args:
        metrics: the rows of metrics.csv of the run.
        table: rows with the column "round".
    """
    collapsed = {row["round"] for row in metrics if has_collapsed(row)}
    return [row | {"collapsed": int(row["round"] in collapsed)} for row in table]


def over_matrices(matrices: Sequence[Array], *, init: bool = False) -> dict[str, Array]:
    """Return {"mean", "min", "max": matrix} over the matrices of runs, on the rounds that all have.

    A NaN, as `without_collapsed` sets, is left out unless all runs have one.

    Args:
        matrices: one (rounds, other rounds) for each run.
        init: whether the last row and column of each is the initialization, and stays the last.
    """
    rows, columns = (min(matrix.shape[axis] for matrix in matrices) - init for axis in (0, 1))
    last = [-1] * init
    places = np.ix_([*range(rows), *last], [*range(columns), *last])
    stacked = np.stack([matrix[places] for matrix in matrices])  # (runs, rows, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of cells that are NaN in all
        return {
            "mean": np.nanmean(stacked, 0),
            "min": np.nanmin(stacked, 0),
            "max": np.nanmax(stacked, 0),
        }


def without_collapsed(
    metrics: Iterable[Row], matrix: Array, others: Iterable[Row] | None = None
) -> Array:
    """Return a matrix between rounds, NaN where either network has collapsed.

    Args:
        metrics: the rows of metrics.csv of the run whose rounds are the rows.
        matrix: (rounds, others), with or without the initialization at the end of both.
        others: those of the run whose rounds are the columns; by default the same.
    """
    found = matrix.copy()
    rows = [row["round"] for row in metrics if has_collapsed(row)]
    columns = rows if others is None else [row["round"] for row in others if has_collapsed(row)]
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


def side_by_side(
    groups: Mapping[str, Sequence[RunDir]],
    rows_of: Callable[[RunDir], list[Row]],
    by: Sequence[str],
) -> list[Row]:
    """Return rows of {run: label} and the table of each group of runs, as `of_runs`.

    Args:
        groups: {label: replicates}.
        rows_of: gives the table of a run.
        by: the columns that tell rows of a run apart.
    """
    return [
        {"run": label} | row
        for label, runs in groups.items()
        for row in of_runs(runs, [rows_of(run) for run in runs], by)
    ]
