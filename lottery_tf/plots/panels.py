"""Draws figures of several panels on one scale, as the papers print them."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.image
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lottery_tf.plots import Columns, Row
from lottery_tf.plots.axes import (
    COLOURS,
    DENSITY,
    ENDS,
    band,
    density_axis,
    grid_of,
    horizontal,
    legend_below,
    measure_axis,
    plain,
    side_by_side,
    style,
    title_above,
    with_ends,
)
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

    Args:
        panels: their rows have `x` and the column, and as means of replicates its _min and _max.
        column, what, percent: the measure, its label with unit, whether it is a part of one.
        x: the column across: density (logarithmic, falling), or another (logarithmic, base 2).
        line: (value, label) of a horizontal line.
        title: above all.
    """
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure, all_axes = grid_of(down, across, max(5.5, 3.6 * across + 0.4), 3.0 * down + 1.1)
    low, high = _scale(panels, column, *(line[0],) if line else ())
    everything = [row[x] for curves in panels.values() for c in curves.values() for row in c.rows]
    for axes, (name, of_panel) in zip(all_axes.flat, panels.items(), strict=False):
        draw(axes, of_panel, column, x=x)
        if line:
            horizontal(axes, line, ":")
        measure_axis(axes, "", percent=percent)
        axes.set_ylim(low, high)
        _mark_below(axes, of_panel, column, x, low, percent)
        if x == "density":
            axes.set_xlim(1.15 * max(everything), min(everything) / 1.15)
        axes.set_title(plain(name), fontsize=10)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supylabel(plain(what), fontsize=10)
    title_above(figure, title)
    legend_below(figure, all_axes.flat)
    return figure


def measures(
    of_panel: Mapping[str, Curve], columns: Mapping[str, tuple[str, bool]], *, title: str
) -> Figure:
    """Draw several measures of the same curves against density, a panel for each.

    Args:
        of_panel: {label: curve}.
        columns: {column: (label with unit, whether it is a part of one)}.
        title: above all.
    """
    figure, all_axes = side_by_side(len(columns), 4.6 * len(columns), 4.1)
    for axes, (column, (what, percent)) in zip(all_axes, columns.items(), strict=True):
        draw(axes, of_panel, column)
        measure_axis(axes, what, percent=percent)
        axes.set_ylim(*_scale({"": of_panel}, column))
    title_above(figure, title)
    legend_below(figure, all_axes)
    return figure


def draw(axes: Axes, of_panel: Mapping[str, Curve], column: str, *, x: str = "density") -> None:
    """Draw {label: curve} of a measure into axes, with bars from min to max.

    A point whose row has "collapsed", the part of the runs that has, is crossed out.
    """
    for label, curve in of_panel.items():
        rows, values, errors = with_ends(curve.rows, column)
        axes.errorbar(
            [row[x] for row in rows],
            values,
            errors,
            **style(curve.colour, label, 3.5),
            linestyle="--" if curve.dashed else "-",
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
        )
    all_rows = [row for curve in of_panel.values() for row in curve.rows]
    if gone := [(row[x], row[column]) for row in all_rows if row.get("collapsed")]:
        axes.plot(*zip(*gone, strict=True), "kx", markersize=9, label="collapsed, in part or whole")
    if x == "density":
        density_axis(axes)
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
    names = (column, *(f"{column}_{end}" for end in ENDS))
    of_all = [row[name] for row in rows for name in names if name in row]
    values = np.array([value for value in of_all if np.isfinite(value)] or [0.0, 1.0])
    high, quarter = float(values.max()), float(np.percentile(values, 25))
    low = float(values[values >= quarter - OUTLIERS * (high - quarter)].min())
    low, high = min(low, *others, high), max(high, *others, low)
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def _mark_below(
    axes: Axes, of_panel: Mapping[str, Curve], column: str, x: str, low: float, percent: bool
) -> None:
    """Write the values that lie below the axis at its end; of equal ones the first."""
    below: dict[tuple[float, str], int] = {}
    for curve in of_panel.values():
        for row in curve.rows:
            if row[column] < low:
                value = f"{100 * row[column]:.3g}" if percent else f"{row[column]:.3g}"
                below.setdefault((row[x], value), curve.colour)
    for (place, value), colour in below.items():
        axes.annotate(f"{value} ↓", (place, low), fontsize=7, color=COLOURS[colour % len(COLOURS)])


def matrices(
    grid: Mapping[tuple[str, str], tuple[np.ndarray, Sequence[float]]],
    *,
    what: str,
    top: float,
    title: str,
) -> Figure:
    """Draw matrices between rounds on one scale; the last row and column are the start.

    Args:
        grid: {(label of its row, label of its column): ((rounds + 1, rounds + 1), densities)}; a
            place without a matrix stays empty.
        what: the label of the colours, with the unit.
        top: the value of the last colour; the first is 0.
        title: above all.
    """
    rows, columns = (list(dict.fromkeys(key[axis] for key in grid)) for axis in (0, 1))
    width, height = max(5.2, 2.3 * len(columns) + 1.8), max(4.0, 2.2 * len(rows) + 1.2)
    figure, all_axes = grid_of(len(rows), len(columns), width, height)  # the labels need so much
    for (row, column), axes in zip(np.ndindex(all_axes.shape), all_axes.flat, strict=True):
        axes.set_title(plain(columns[column]) if row == 0 else "", fontsize=9)
        axes.set_ylabel(plain(rows[row]) if column == 0 else "", fontsize=9)
        axes.set(xticks=[], yticks=[])
        if values := grid.get((rows[row], columns[column])):
            image = _matrix(axes, *values, top)
    colours = figure.colorbar(image, ax=all_axes, shrink=0.8, aspect=30)
    colours.set_label(plain(what), fontsize=9)
    figure.supxlabel(DENSITY + ", init: where a round started", fontsize=9)
    title_above(figure, title)
    return figure


def _matrix(
    axes: Axes, values: np.ndarray, densities: Sequence[float], top: float
) -> matplotlib.image.AxesImage:
    places = range(0, len(densities), -(-len(densities) // TICKS))
    percents = [100 * densities[place] for place in places]
    labels = [f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}" for percent in percents]
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks([*places, len(densities)], [*labels, "init"], fontsize=6)
    axes.tick_params(axis="x", rotation=90)
    return axes.imshow(values, cmap="viridis", vmin=0.0, vmax=top)


def barriers(
    paths: Mapping[str, list[Row]], of_rounds: Mapping[str, Curve], *, title: str
) -> Figure:
    """Draw the error along some paths (left), and the error barrier of all against density (right).

    Args:
        paths: {label: rows of alpha and error, with _min and _max of replicates}.
        of_rounds: {label: curve whose rows have density and error_barrier}.
        title: above both.
    """
    figure, (left, right) = side_by_side(2, 9.5, 3.9)
    for index, (label, points) in enumerate(paths.items()):
        alphas, look = [point["alpha"] for point in points], style(index, label, 3)
        left.plot(alphas, [point["error"] for point in points], **look)
        band(left, points, "alpha", "error", look["color"])
    left.set_xlabel("alpha: 0 = a round, 1 = the next round")
    measure_axis(left, "error (%)", percent=True)
    left.legend(fontsize=8)
    draw(right, of_rounds, "error_barrier")
    measure_axis(right, "error barrier (points of %)", percent=True)
    right.set_xlabel("density of the later round (%)")
    right.set_ylim(bottom=min(0.0, right.get_ylim()[0]))
    if len(right.get_legend_handles_labels()[1]) > 1:
        right.legend(fontsize=8)
    title_above(figure, title)
    return figure


def table(rows: Sequence[Row], columns: Columns, *, title: str) -> Figure:
    """Draw a table as a picture; `columns` as of tables.show."""
    titles, *lines = [[*map(plain, line)] for line in cells(rows, columns)]
    widths = [max(map(len, column)) + 2 for column in zip(titles, *lines, strict=True)]
    figure, (axes,) = side_by_side(1, 0.085 * sum(widths) + 0.4, 0.28 * len(rows) + 1)
    axes.set_axis_off()
    title_above(figure, title)
    drawn = axes.table(
        lines,
        colLabels=titles,
        colWidths=[width / sum(widths) for width in widths],
        loc="center",
        cellLoc="left",
        edges="horizontal",
    )
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
        what: its label with unit.
        name: the column of what a point is called in the legend: one colour and marker each; what
            ends in a star is hollow, in the colour of what has none.
        key: above the legend.
        title: above all.
    """
    size = 3.6 * len(across) + 1.2, 2.5 * len(points) + 1
    figure, panels = grid_of(len(points), len(across), *size, sharex="col", sharey="row")
    names = (str(row[name]) for rows in points.values() for row in rows)
    kinds = list(dict.fromkeys(called.rstrip("*") for called in names))
    handles: dict[str, ErrorbarContainer] = {}
    for in_row, (label, rows) in zip(panels, points.items(), strict=True):
        for axes, (x, (x_label, percent)) in zip(in_row, across.items(), strict=True):
            for row in rows:
                if x in row:
                    called = str(row[name])
                    look = style(kinds.index(called.rstrip("*")), called, 5)
                    look |= {"fillstyle": "none" if called.endswith("*") else "full"}
                    place, height = row[x] * (100 if percent else 1), 100 * row[column]
                    ends = [[100 * abs(row[column] - row[f"{column}_{end}"])] for end in ENDS]
                    handles[called] = axes.errorbar(
                        [place], [height], ends, linestyle="", elinewidth=0.7, **look
                    )
            if percent:  # from a test set's smallest step, a hundredth of a point, to tens
                axes.set_xscale("symlog", linthresh=SMALLEST, linscale=0.3)
                axes.set_xlim(left=0)
                axes.xaxis.set_major_formatter("{x:g}")
            axes.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
            measure_axis(axes, label if axes is in_row[0] else "", percent=False)
            axes.set_xlabel(plain(x_label))
            axes.label_outer()
    figure.legend(
        handles.values(),
        [plain(called) for called in handles],
        title=plain(key),
        fontsize=8,
        title_fontsize=8,
        loc="outside right upper",
    )
    figure.supylabel(plain(what), fontsize=10)
    title_above(figure, title)
    return figure
