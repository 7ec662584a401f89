"""Draws figures of several panels on one scale, as the papers print them; words as in figures."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lottery_tf.plots import Columns, Row, parts
from lottery_tf.plots.tables import cells

ACROSS = 3  # panels in a line
OUTLIERS = 4  # a scale ends so many times the upper three quarters' span below these
TICKS = 7  # densities named beside a matrix
SMALLEST = 0.01  # point of percent: below it the axis of a scatter is linear, to 0


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve: its rows, the index of its colour, and whether it is a control, and so dashed."""

    rows: list[Row]
    colour: int = 0
    dashed: bool = False


Panels = Mapping[str, Mapping[str, Curve]]  # {title: {label: curve}}


def curves(
    panels: Panels,
    column: str,
    *,
    what: str,
    percent: bool = False,
    x: str = "density",
    line: tuple[float, str] | None = None,
    title: str = "",
) -> Figure:
    """Draw curves of a measure, a panel for each group, all on one vertical scale.

    Values below it are written at the end of the axis. Rows have the column and `x`, which goes
    across: density (logarithmic, falling), or another (logarithmic, base 2).
    """
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    inches = max(5.5, 3.6 * across + 0.4), 3.0 * down + 1.1
    figure, all_axes = parts.grid_of(down, across, inches, title)
    low, high = _scale(panels, column, *(line[0],) if line else ())
    everything = [row[x] for of in panels.values() for c in of.values() for row in c.rows]
    for axes, (name, of_panel) in zip(all_axes.flat, panels.items(), strict=False):
        draw(axes, of_panel, column, x=x)
        if line:
            parts.horizontal(axes, line, ":")
        parts.measure_axis(axes, "", percent=percent)
        axes.set_ylim(low, high)
        below: dict[tuple[float, str], int] = {}  # of equal ones, the first is written
        for curve in of_panel.values():
            for row in (row for row in curve.rows if row[column] < low):
                value = f"{(100 if percent else 1) * row[column]:.3g}"
                below.setdefault((row[x], value), curve.colour)
        for (place, value), colour in below.items():
            axes.annotate(f"{value} ↓", (place, low), fontsize=7, color=parts.colour(colour))
        if x == "density":
            axes.set_xlim(1.15 * max(everything), min(everything) / 1.15)
        axes.set_title(parts.plain(name), fontsize=10)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supylabel(parts.plain(what), fontsize=10)
    parts.legend_below(figure, all_axes.flat)
    return figure


def measures(
    of_panel: Mapping[str, Curve], columns: Mapping[str, tuple[str, bool]], *, title: str
) -> Figure:
    """Draw several measures of the same curves, {label: curve}, against density, a panel each."""
    figure, all_axes = parts.side_by_side(len(columns), 4.6 * len(columns), 4.1, title)
    for axes, (column, (what, percent)) in zip(all_axes, columns.items(), strict=True):
        draw(axes, of_panel, column)
        parts.measure_axis(axes, what, percent=percent)
        axes.set_ylim(*_scale({"": of_panel}, column))
    parts.legend_below(figure, all_axes)
    return figure


def draw(axes: Axes, of_panel: Mapping[str, Curve], column: str, *, x: str = "density") -> None:
    """Draw {label: curve} of a measure into axes, with bars from min to max.

    A point whose row has "collapsed", the part of the runs that has, is crossed out.
    """
    for label, curve in of_panel.items():
        rows, values, errors = parts.with_ends(curve.rows, column)
        look = parts.style(curve.colour, label, 3.5) | {"linestyle": "--" if curve.dashed else "-"}
        widths = {"linewidth": 1.2, "elinewidth": 0.8, "capsize": 2}
        axes.errorbar([row[x] for row in rows], values, errors, **look, **widths)
    all_rows = [row for curve in of_panel.values() for row in curve.rows]
    if gone := [(row[x], row[column]) for row in all_rows if row.get("collapsed")]:
        axes.plot(*zip(*gone, strict=True), "kx", markersize=9, label="collapsed, in part or whole")
    if x == "density":
        parts.density_axis(axes)
        axes.set_xlabel("density (%)")
    else:
        places = sorted({row[x] for row in all_rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set_xlabel(x.replace("_", " "))


def _scale(panels: Panels, column: str, *others: float) -> tuple[float, float]:
    """Return the lowest and highest value of all panels and others, without a few far below."""
    rows = [row for panel in panels.values() for curve in panel.values() for row in curve.rows]
    names = (column, *(f"{column}_{end}" for end in parts.ENDS))
    of_all = [row[name] for row in rows for name in names if name in row]
    values = np.array([value for value in of_all if np.isfinite(value)] or [0.0, 1.0])
    high, quarter = float(values.max()), float(np.percentile(values, 25))
    low = float(values[values >= quarter - OUTLIERS * (high - quarter)].min())
    low, high = min(low, *others, high), max(high, *others, low)
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def matrices(
    grid: Mapping[tuple[str, str], tuple[np.ndarray, Sequence[float]]],
    *,
    what: str,
    top: float,
    title: str,
) -> Figure:
    """Draw matrices between rounds on one scale; the last row and column are the start.

    The grid is {(label of its row, label of its column): ((rounds + 1, rounds + 1), densities)}; a
    place without a matrix stays empty. `top` is the value of the last colour; the first is 0.
    """
    rows, columns = (list(dict.fromkeys(key[axis] for key in grid)) for axis in (0, 1))
    width, height = max(5.2, 2.3 * len(columns) + 1.8), max(4.0, 2.2 * len(rows) + 1.2)
    # The labels need so much.
    figure, all_axes = parts.grid_of(len(rows), len(columns), (width, height), title)
    for (row, column), axes in zip(np.ndindex(all_axes.shape), all_axes.flat, strict=True):
        axes.set_title(parts.plain(columns[column]) if row == 0 else "", fontsize=9)
        axes.set_ylabel(parts.plain(rows[row]) if column == 0 else "", fontsize=9)
        axes.set(xticks=[], yticks=[])
        if values := grid.get((rows[row], columns[column])):
            matrix, densities = values
            places = range(0, len(densities), -(-len(densities) // TICKS))
            percents = [100 * densities[place] for place in places]
            labels = [f"{p:.0f}" if p >= 10 else f"{p:.2g}" for p in percents]
            for ticks in (axes.set_xticks, axes.set_yticks):
                ticks([*places, len(densities)], [*labels, "init"], fontsize=6)
            axes.tick_params(axis="x", rotation=90)
            image = axes.imshow(matrix, cmap="viridis", vmin=0.0, vmax=top)
    colours = figure.colorbar(image, ax=all_axes, shrink=0.8, aspect=30)
    colours.set_label(parts.plain(what), fontsize=9)
    figure.supxlabel(parts.DENSITY + ", init: where a round started", fontsize=9)
    return figure


def barriers(
    paths: Mapping[str, list[Row]], of_rounds: Mapping[str, Curve], *, title: str
) -> Figure:
    """Draw the error along some paths (left), and the error barrier of all against density (right).

    The rows of paths have alpha and error; those of the curves density and error_barrier.
    """
    figure, (left, right) = parts.side_by_side(2, 9.5, 3.9, title)
    for index, (label, points) in enumerate(paths.items()):
        parts.line_with_band(left, points, "alpha", "error", parts.style(index, label, 3))
    left.set_xlabel("alpha: 0 = a round, 1 = the next round")
    parts.measure_axis(left, "error (%)", percent=True)
    left.legend(fontsize=8)
    draw(right, of_rounds, "error_barrier")
    parts.measure_axis(right, "error barrier (percentage points)", percent=True)
    right.set_xlabel("density of the later round (%)")
    right.set_ylim(bottom=min(0.0, right.get_ylim()[0]))
    if len(right.get_legend_handles_labels()[1]) > 1:
        right.legend(fontsize=8)
    return figure


def table(rows: Sequence[Row], columns: Columns, *, title: str) -> Figure:
    """Draw a table as a picture; `columns` as of tables.show."""
    titles, *lines = [[*map(parts.plain, line)] for line in cells(rows, columns)]
    widths = [max(map(len, column)) + 2 for column in zip(titles, *lines, strict=True)]
    figure, (axes,) = parts.side_by_side(1, 0.085 * sum(widths) + 0.4, 0.28 * len(rows) + 1, title)
    axes.set_axis_off()
    of_all = [width / sum(widths) for width in widths]
    look = {"loc": "center", "cellLoc": "left", "edges": "horizontal"}
    drawn = axes.table(lines, colLabels=titles, colWidths=of_all, **look)
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.scale(1, 1.3)
    return figure


def scatters(
    points: Mapping[str, Sequence[Row]],
    across: Mapping[str, tuple[str, bool]],
    column: str,
    *,
    what: str,
    name: str,
    key: str,
    title: str,
) -> Figure:
    """Draw panels of one measure against several others, a row of panels for each label.

    Args:
        points: {label: rows of `column`, its _min and _max, the columns of `across`, and `name`}.
        across: {column: (label with unit, whether it is a part of one)}; rows may lack one.
        column: the measure upwards, a part of one.
        name: the column of what a point is called in the legend: one colour and marker each; what
            ends in a star is hollow, in the colour of what has none. `key` stands above them.
    """
    size = 3.6 * len(across) + 1.2, 2.5 * len(points) + 1
    figure, panels = parts.grid_of(len(points), len(across), size, title, shared=True)
    names = (str(row[name]) for rows in points.values() for row in rows)
    kinds = list(dict.fromkeys(called.rstrip("*") for called in names))
    handles: dict[str, ErrorbarContainer] = {}
    for in_row, (label, rows) in zip(panels, points.items(), strict=True):
        for axes, (x, (x_label, percent)) in zip(in_row, across.items(), strict=True):
            for row in rows:
                if x in row:
                    called = str(row[name])
                    look = parts.style(kinds.index(called.rstrip("*")), called, 5)
                    look |= {"fillstyle": "none" if called.endswith("*") else "full"}
                    place, height = row[x] * (100 if percent else 1), 100 * row[column]
                    ends = [[100 * abs(row[column] - row[f"{column}_{end}"])] for end in parts.ENDS]
                    look |= {"linestyle": "", "elinewidth": 0.7}
                    handles[called] = axes.errorbar([place], [height], ends, **look)
            if percent:  # from a test set's smallest step, a hundredth of a point, to tens
                axes.set_xscale("symlog", linthresh=SMALLEST, linscale=0.3)
                axes.set_xlim(left=0)
                axes.xaxis.set_major_formatter("{x:g}")
            axes.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
            parts.measure_axis(axes, label if axes is in_row[0] else "", percent=False)
            axes.set_xlabel(parts.plain(x_label))
            axes.label_outer()
    look = {"fontsize": 8, "title_fontsize": 8, "loc": "outside right upper"}
    labels = [parts.plain(called) for called in handles]
    figure.legend(handles.values(), labels, title=parts.plain(key), **look)
    figure.supylabel(parts.plain(what), fontsize=10)
    return figure
