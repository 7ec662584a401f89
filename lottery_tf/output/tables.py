"""Tables in the terminal."""


def show(rows, columns):
    """Prints rows.

    Args:
        rows: [{column: value}].
        columns: {column: (title, format)}; columns that no row has are left out, NaN is empty.
    """
    columns = {c: about for c, about in columns.items() if any(c in row for row in rows)}
    lines = [[title for title, _ in columns.values()]]
    for row in rows:
        cells = (
            form.format(row[c]) if row[c] == row[c] else "" for c, (_, form) in columns.items()
        )
        lines.append(list(cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def show_options(options):
    """Prints what results depend on, below their table."""
    print("(" + ", ".join(f"{name}: {value}" for name, value in options.items()) + ")")
