"""Means over replicates: of rows, and of matrices between rounds. NumPy only."""

import numpy as np


def group(rows, by) -> dict:
    """{values of some columns: rows that have them}, in the order of the first rows."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def means(rows, by, *, of=1) -> list[dict]:
    """Rows of the means over rows that agree in some columns, with min and max beside them.

    Args:
        rows: [{column: value}]; columns that are not numbers are left out, as are those named
            _min and _max, of earlier means.
        by: the columns, as ("round",).
        of: how many rows a mean must be of; groups of fewer are left out.

    Returns:
        [{column: mean, column_min: …, column_max: …}], in the order of the first rows.
    """
    averaged = []
    for key, rows_of_key in group(rows, by).items():
        if len(rows_of_key) < of:
            continue
        mean = dict(zip(by, key, strict=True))
        for name in (name for name in rows_of_key[0] if name not in by):
            values = [row[name] for row in rows_of_key]
            if isinstance(values[0], int | float) and not name.endswith(("_min", "_max")):
                mean |= {name: sum(values) / len(values)}
                mean |= {f"{name}_min": min(values), f"{name}_max": max(values)}
        averaged.append(mean)
    return averaged


def over_runs(tables, by) -> list[dict]:
    """`means` over the tables of several runs, of the rows that all have."""
    return means([row for table in tables for row in table], by, of=len(tables))


def over_matrices(matrices, *, init: bool) -> dict[str, np.ndarray]:
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


def labelled(values, rows, columns) -> list[dict]:
    """The rows {round: label, column: number, …} of a matrix."""
    names = list(map(str, columns))
    return [
        {"round": label} | dict(zip(names, map(float, line), strict=True))
        for label, line in zip(rows, values, strict=True)
    ]
