"""Means over replicates: of rows, and of matrices between rounds. NumPy only."""

from collections.abc import Iterable, Sequence

import numpy as np

from lottery_tf.method import Array
from lottery_tf.output import Row


def group(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """{values of some columns: rows that have them}, in the order of the first rows."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def means(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    """Rows of the means over rows that agree in some columns, with min and max beside them.

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
        for name in (name for name in rows_of_key[0] if name not in by):
            cells = (row.get(name) for row in rows_of_key)
            values = [cell for cell in cells if isinstance(cell, int | float)]
            of_all = len(values) == len(rows_of_key)
            if of_all and not name.endswith(("_min", "_max")):
                mean |= {name: sum(values) / len(values)}
                mean |= {f"{name}_min": min(values), f"{name}_max": max(values)}
        averaged.append(mean)
    return averaged


def over_runs(tables: Sequence[list[Row]], by: Sequence[str]) -> list[Row]:
    """`means` over the tables of several runs, of the rows that all have."""
    keys = [group(table, by).keys() for table in tables]
    shared = [key for key in keys[0] if all(key in others for others in keys)] if keys else []
    rows = group((row for table in tables for row in table), by)
    return means([row for key in shared for row in rows[key]], by)


def over_matrices(matrices: Sequence[Array], *, init: bool = False) -> dict[str, Array]:
    """{"mean", "min", "max": matrix} over the matrices of runs, on the rounds that all have.

    Args:
        matrices: one (rounds, other rounds) for each run.
        init: whether the last row and column of each is the initialization, and stays the last.
    """
    rows, columns = (min(matrix.shape[axis] for matrix in matrices) - init for axis in (0, 1))
    last = [-1] * init
    places = np.ix_([*range(rows), *last], [*range(columns), *last])
    stacked = np.stack([matrix[places] for matrix in matrices])  # (runs, rows, columns)
    return {"mean": stacked.mean(0), "min": stacked.min(0), "max": stacked.max(0)}


def labelled(matrix: Array, *, init: bool = False) -> list[Row]:
    """The rows {round, 0, 1, …} of a matrix; with `init`, the last row and column are named so."""
    rows, columns = ([*range(size - init)] + ["init"] * init for size in matrix.shape)
    return [
        {"round": label} | dict(zip(map(str, columns), map(float, line), strict=True))
        for label, line in zip(rows, matrix, strict=True)
    ]
