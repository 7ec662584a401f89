"""Prints tables in the terminal, and where results were written."""

import math
import pathlib
from collections.abc import Iterable, Sequence

from lottery_tf.plots import Columns, Row


def show(rows: Sequence[Row], columns: Columns) -> None:
    """Print rows as `cells` formats them."""
    lines = cells(rows, columns)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def cells(rows: Sequence[Row], columns: Columns) -> list[list[str]]:
    """Return the titles, and the formatted cells of each row.

    Columns that no row has are left out, and what is NaN, missing or no text is empty.
    """
    columns = {c: about for c, about in columns.items() if any(c in row for row in rows)}
    lines = [[title for title, _ in columns.values()]]
    for row in rows:
        values = ((row.get(c, math.nan), form) for c, (_, form) in columns.items())
        lines.append(
            [form.format(v) if v == v and v != "" else "" for v, form in values]  # NaN != NaN
        )
    return lines


def count(number: int, what: str) -> str:
    """Format a number of things, as "1 run" or "2 runs"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Format a time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def show_written(paths: Iterable[pathlib.Path]) -> None:
    """Print where results are: a line for each directory, with its files."""
    names: dict[pathlib.Path, list[str]] = {}
    for path in dict.fromkeys(paths):
        of, name = (path, "TensorBoard's page") if path.is_dir() else (path.parent, path.name)
        names.setdefault(of, []).append(name)
    for directory, of_directory in names.items():
        print(f"Wrote into {below_here(directory)}: {', '.join(of_directory)}")


def below_here(path: pathlib.Path) -> pathlib.Path:
    """Return a path relative to the current directory, if it lies below that."""
    try:
        here = pathlib.Path.cwd()
    except OSError:  # it was deleted meanwhile
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path
