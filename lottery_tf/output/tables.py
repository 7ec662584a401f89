"""Tables in the terminal."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lottery_tf.output import Columns, Row


def show(rows: Sequence[Row], columns: Columns) -> None:
    """Prints rows; columns that no row has are left out, NaN is empty."""
    columns = {c: about for c, about in columns.items() if any(c in row for row in rows)}
    lines = [[title for title, _ in columns.values()]]
    for row in rows:
        cells = ((row[c], form) for c, (_, form) in columns.items())
        lines.append([form.format(value) if value == value else "" for value, form in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def show_written(paths: Iterable[pathlib.Path]) -> None:
    """Prints where results are: a line for each directory, with its files."""
    names: dict[pathlib.Path, list[str]] = {}
    for path in dict.fromkeys(paths):
        of, name = (path, "TensorBoard's page") if path.is_dir() else (path.parent, path.name)
        names.setdefault(of, []).append(name)
    here = pathlib.Path.cwd()
    for directory, of_directory in names.items():
        below = directory.relative_to(here) if directory.is_relative_to(here) else directory
        print(f"Wrote into {below}: {', '.join(of_directory)}")


def show_options(options: Mapping[str, Any]) -> None:
    """Prints what results depend on, below their table."""
    print("(" + ", ".join(f"{name}: {value}" for name, value in options.items()) + ")")
