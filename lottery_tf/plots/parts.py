"""Makes the axes of figures: their ticks, units and labels. No display is needed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.axis
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lottery_tf.plots import Row

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
DENSITY = "density: remaining / prunable weights (%)"
PERCENT = matplotlib.ticker.FuncFormatter(lambda value, _: f"{100 * value:g}")
MOST_TICKS = 10
LEGEND = 2.5  # inches of an entry
MARGIN = 5  # points beside a legend
ENDS = ("min", "max")  # of replicates: the ends of the columns beside that of their mean


def grid_of(
    down: int,
    across: int,
    inches: tuple[float, float],
    title: str,
    size: int = 11,
    shared: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Return a figure of some inches, with a title above that stays inside it, and its axes.

    If they are shared, each column has one scale across, and each line one upwards.
    """
    figure = Figure(figsize=inches, layout="constrained")
    if title:
        figure.suptitle(plain(title), fontsize=size, wrap=True)
    sharing = {"sharex": "col", "sharey": "row"} if shared else {}
    return figure, figure.subplots(down, across, squeeze=False, **sharing)


def side_by_side(
    count: int, width: float, height: float, title: str, size: int = 11
) -> tuple[Figure, np.ndarray]:
    """Return a figure of some inches as `grid_of`, and its `count` axes side by side."""
    figure, axes = grid_of(1, count, (width, height), title, size)
    return figure, axes[0]


def plain(text: str) -> str:
    """Make Matplotlib show a text as it is: a name of the user's, or a label with one in it.

    Between dollar signs it would read a formula, and it hides labels that begin with an underscore.
    A file name may hold bytes that are no text; they become question marks.
    """
    text = text.encode(errors="replace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def colour(index: int) -> str:
    """Return the colour of the curve of an index."""
    return COLOURS[index % len(COLOURS)]


def style(index: int, label: str, size: float) -> dict[str, Any]:
    """Return how the curve of an index is drawn: the first 49 differ in colour or marker."""
    turns, place = divmod(index, len(COLOURS))
    marker = MARKERS[(place + turns) % len(MARKERS)]
    return {"color": COLOURS[place], "marker": marker, "markersize": size, "label": plain(label)}


def with_ends(rows: Sequence[Row], column: str) -> tuple[list[Row], np.ndarray, np.ndarray | None]:
    """Return the rows whose value of a column is finite, their values, and their errors.

    The errors are the distances to the column's _min and _max (2, rows); None if a row has neither.
    """
    rows = [row for row in rows if np.isfinite(row[column])]
    values = np.array([row[column] for row in rows])
    ends = [np.array([row.get(f"{column}_{end}", math.nan) for row in rows]) for end in ENDS]
    errors = np.abs(np.stack(ends) - values) if np.isfinite(ends).all() and rows else None
    return rows, values, errors


def line_with_band(
    axes: Axes, rows: Sequence[Row], x: str, column: str, look: Mapping[str, Any]
) -> None:
    """Draw a column, and the space between its _min and _max, if the rows have them."""
    places = [row[x] for row in rows]
    axes.plot(places, [row[column] for row in rows], **look)
    if rows and f"{column}_min" in rows[0]:
        low, high = ([row[f"{column}_{end}"] for row in rows] for end in ENDS)
        axes.fill_between(places, low, high, color=look["color"], alpha=0.15)


def horizontal(axes: Axes, line: tuple[float, str], dashes: str = "--") -> None:
    """Draw a horizontal line at (value, label)."""
    axes.axhline(line[0], color="0.4", linestyle=dashes, linewidth=1, label=plain(line[1]))


def measure_axis(axes: Axes, what: str, *, percent: bool) -> None:
    """Label the axis of a measure; parts of one are shown in percent."""
    axes.set_ylabel(plain(what))
    if percent:
        axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(alpha=0.3)


def density_axis(axes: Axes) -> None:
    """Make the horizontal axis that of densities: logarithmic, falling, in percent."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    round_numbers(axes.xaxis)
    axes.set_xlabel(DENSITY)


def round_numbers(axis: matplotlib.axis.Axis) -> None:
    """Give a logarithmic axis of parts of one the ticks of `density_ticks`, in percent."""
    axis.set_major_locator(_DensityLocator())
    axis.set_major_formatter(PERCENT)
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


class _DensityLocator(matplotlib.ticker.Locator):
    def __call__(self) -> list[float]:
        return density_ticks(*sorted(self.axis.get_view_interval()))


def density_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two densities: 1, 0.5, 0.2, 0.1, …, neither few nor many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def inside(digits: Iterable[int], decades: Iterable[int] = decades) -> list[float]:
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]

    ticks = inside((1, 2, 5))
    if len(ticks) < 3:
        ticks = inside(range(1, 10))
    if len(ticks) < 3:
        between = matplotlib.ticker.MaxNLocator(4).tick_values(low, high)
        return [float(tick) for tick in between if low <= tick <= high]
    if len(ticks) > MOST_TICKS:
        ticks = inside((1,), decades[:: -(-len(decades) // MOST_TICKS)])
    return ticks


def legend_below(figure: Figure, all_axes: Iterable[Axes]) -> None:
    """Draw one legend of all axes below a figure, in columns that fit; if need be, widen it."""
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for columns in range(max(1, min(len(handles), int(figure.get_figwidth() / LEGEND))), 0, -1):
        placed = {"loc": "outside lower center", "ncols": columns, "fontsize": 8}
        legend = figure.legend(list(handles.values()), list(handles), **placed)
        width = (legend.get_window_extent().width + 2 * MARGIN) / figure.dpi
        if columns == 1:
            figure.set_figwidth(max(width, figure.get_figwidth()))
        elif width > figure.get_figwidth():
            legend.remove()
        else:
            break
