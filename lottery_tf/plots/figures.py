"""Draws figures from tables, to be saved with savefig; `title` stands above.

`what` is the label of a measure, with its unit, and `percent` whether it is a part of one, shown in
percent. `columns` are {column: (label with unit, percent)}, a panel each. `line` is (value, label)
of a horizontal line. Rows that are means of replicates have _min and _max of their columns, which
become error bars or bands.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lottery_tf.errors import InputError
from lottery_tf.plots import Row, parts

FEW = 12  # rounds, whose values a matrix has room for
LATEX = {"pgf"}  # matplotlib writes it by a program that may be missing
SIZE = 1.35  # inches of a small image


class Run(Protocol):
    """A run, as the pictures of its rounds need it; a RunDir is one."""

    path: pathlib.Path

    def metrics(self) -> list[Row]: ...


def check_format(path: str) -> None:
    """Raise InputError if the ending of a picture's file is no format that matplotlib writes."""
    formats = sorted(Figure().canvas.get_supported_filetypes().keys() - LATEX)
    ending = pathlib.Path(path).suffix[1:].lower()
    if ending not in formats:
        raise InputError(
            f"Pictures are written as {', '.join(formats)}, by the ending of the file. Received: "
            f"{path}"
        )


def accuracy_against_density(runs: Mapping[str, list[Row]], *, title: str = "") -> Figure:
    """Draw test accuracy against density, as Fig. 1 of the paper, of {label: metrics of a run}."""
    curves = {label: (rows, "test_accuracy") for label, rows in runs.items()}
    return against_density(curves, what="test accuracy (%)", percent=True, title=title)


def against_density(
    curves: Mapping[str, tuple[list[Row], str]],
    *,
    what: str,
    percent: bool = False,
    line: tuple[float, str] | None = None,
    title: str = "",
    logarithmic: bool = False,
) -> Figure:
    """Draw measures of rounds against density (%, logarithmic, falling); of one density, as bars.

    A line that lies far from the curves becomes a note in the legend.

    The curves are {label: (rows with density and the column, column)}.
    """
    figure, (axes,) = parts.side_by_side(1, 7, 4.5, title)
    densities = {round(row["density"], 9) for rows, _ in curves.values() for row in rows}
    alone = len(densities) == 1
    for index, (label, (rows, column)) in enumerate(curves.items()):
        rows, values, errors = parts.with_ends(rows, column)
        if alone:  # a bar for each value, with its number above
            errors = errors if errors is not None and errors.any() else None
            look = {"capsize": 4, "color": parts.colour(index)}
            bars = axes.bar([index] * len(values), values, 0.6, yerr=errors, **look)
            axes.bar_label(bars, [f"{(100 if percent else 1) * value:.3g}" for value in values])
            axes.margins(y=0.1)
        else:
            places = [row["density"] for row in rows]
            axes.errorbar(places, values, errors, capsize=2, **parts.style(index, label, 4))
    if logarithmic:
        axes.set_yscale("log")
    if line:
        low, high = axes.get_ylim()
        if alone or 2 * low - high <= line[0] <= 2 * high - low:
            parts.horizontal(axes, line)
        else:  # it would press the curves together
            where = "below" if line[0] < low else "above"
            axes.plot([], [], " ", label=parts.plain(f"{line[1]} (far {where} the curves)"))
    if alone:
        labels = [parts.plain(label).replace(", ", ",\n") for label in curves]
        axes.set_xticks(range(len(curves)), labels)
        axes.set_axisbelow(True)  # the grid, behind the bars
        axes.set_xlabel(f"at density {densities.pop():.2%}")
    else:
        parts.density_axis(axes)
    parts.measure_axis(axes, what, percent=percent)
    if line or not alone:
        axes.legend()
    return figure


def matrix(
    values: np.ndarray,
    run: Run,
    other: Run | None,
    *,
    what: str,
    title: str,
    scale: tuple[float, float] = (0.0, 1.0),
    init: bool = False,
) -> Figure:
    """Draw a measure between the rounds of a run and of another, as Fig. 4 of the paper.

    Of few rounds, the values stand in the cells.

    Args:
        values: (rounds, other's rounds) numbers; NaN stays white.
        run, other: the runs; None for `run` itself.
        scale: the values of the first and the last colour, which what lies beyond has too.
        init: whether the last row and column are the initialization.
    """
    rows, columns = (
        [f"{100 * row['density']:.3g}" for row in of.metrics()[: size - init]] + ["init"] * init
        for of, size in zip((run, other or run), values.shape, strict=True)
    )
    title += f" (rows) and {other.path.name} (columns)" if other else ""
    size = 2.6 + 0.2 * max(len(rows), len(columns), 10)
    figure, (axes,) = parts.side_by_side(1, size + 0.9, size, title, 10)
    low, high = scale
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
    if max(values.shape) <= FEW:
        shades = (values - low) / (high - low or 1.0)
        form = "{:.2f}" if np.abs(np.nan_to_num(values)).max(initial=0) < 10 else "{:.3g}"
        look = {"ha": "center", "va": "center", "fontsize": 5.5}
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "black" if shades[row, column] > 0.6 else "white"
                axes.text(column, row, form.format(value), color=ink, **look)
    for ticks, labels in ((axes.set_xticks, columns), (axes.set_yticks, rows)):
        ticks(range(len(labels)), labels, fontsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel(parts.DENSITY)
    axes.set_ylabel(parts.DENSITY)
    beyond = bool((values < low).any()), bool((values > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    colours = figure.colorbar(image, shrink=0.8, extend=extend.get(beyond, "neither"))
    colours.set_label(parts.plain(what))
    return figure


def paths(
    panels: Mapping[str, list[Row]],
    *,
    columns: Mapping[str, tuple[str, bool]],
    title: str,
    ends: tuple[str, str],
) -> Figure:
    """Draw measures along paths between networks, as Fig. 8 (left) of the paper.

    The panels are {label of a path: rows with alpha}; `ends` says what a path is between.
    """
    figure, all_axes = parts.side_by_side(len(columns), 5.2 * len(columns), 4.2, title)
    for axes, (column, (what, percent)) in zip(all_axes, columns.items(), strict=True):
        for index, (label, rows) in enumerate(panels.items()):
            parts.line_with_band(axes, rows, "alpha", column, parts.style(index, label, 3))
        axes.set_xlabel(parts.plain(f"alpha: 0 = {ends[0]}, 1 = {ends[1]}"))
        parts.measure_axis(axes, what, percent=percent)
    all_axes[-1].legend(fontsize=8)
    return figure


def histograms(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    title: str,
    most: float | None = None,
) -> Figure:
    """Draw histograms of weights, as Fig. 5 of the paper.

    The panels are {title: {label: (counts, edges)}}; counts (bins,) become parts of all. `most` is
    the largest |weight| that is shown; by default all are.
    """
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    inches = max(4.8, 3.2 * across), 2.6 * down + 0.4
    figure, all_axes = parts.grid_of(down, across, inches, title)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, series) in zip(all_axes.flat, panels.items(), strict=False):
        for index, (label, (counts, edges)) in enumerate(series.items()):
            share, colour = np.asarray(counts) / max(np.sum(counts), 1), parts.colour(index)
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(share, edges, color=colour, label=parts.plain(label))
        axes.set_title(parts.plain(name), fontsize=9)
        axes.yaxis.set_major_formatter(parts.PERCENT)
        axes.tick_params(labelsize=8)
        if most:
            axes.set_xlim(-most, most)
    for axes in all_axes[:, 0]:
        axes.set_ylabel("surviving weights (%)", fontsize=9)
    for axes in all_axes[-1]:
        axes.set_xlabel("weight", fontsize=9)
    all_axes[0, 0].legend(fontsize=8)
    return figure


def layers(
    rows: Mapping[str, list[Row]], *, columns: Mapping[str, tuple[str, bool]], title: str
) -> Figure:
    """Draw measures of each layer against density, a panel for each measure.

    The rows are {layer: rows with network_density}, the columns {column: (label in percent, whether
    it is logarithmic)}, parts of one.
    """
    figure, all_axes = parts.side_by_side(len(columns), 5.2 * len(columns) + 1.5, 4.5, title)
    # Of many the order tells, by colours that neither a white nor a dark page hides.
    many = matplotlib.colormaps["viridis"](np.linspace(0.3, 0.85, max(len(rows), 2)))
    colours = parts.COLOURS if len(rows) < len(parts.COLOURS) else many
    for axes, (column, (what, logarithmic)) in zip(all_axes, columns.items(), strict=True):
        for colour, (layer, points) in zip(colours, rows.items(), strict=False):
            values = [point[column] for point in points]
            places = [point["network_density"] for point in points]
            axes.plot(places, values, marker=".", color=colour, label=parts.plain(layer))
        parts.density_axis(axes)
        if logarithmic:
            axes.set_yscale("log")
            parts.round_numbers(axes.yaxis)
        parts.measure_axis(axes, what, percent=True)
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    all_axes[-1].legend(fontsize=7, ncols=1 + len(rows) // 24, **beside)
    return figure


def heat_maps(panels: Mapping[str, np.ndarray], *, what: str) -> Figure:
    """Draw images of counts side by side, each from 0 to its largest: {title: (height, width)}."""
    figure, all_axes = parts.side_by_side(len(panels), 2.5 * len(panels), 2.4, "")
    for axes, (title, counts) in zip(all_axes, panels.items(), strict=True):
        image = axes.imshow(counts, cmap="viridis", vmin=0, vmax=max(counts.max(), 1))
        axes.set_axis_off()
        axes.set_title(parts.plain(title))
        colours = figure.colorbar(image, ax=axes, shrink=0.75)
        colours.locator = MaxNLocator(4, integer=True)
        colours.update_ticks()
    colours.set_label(parts.plain(what))
    return figure


def images(
    panels: Mapping[str, Sequence[tuple[str, np.ndarray]]], *, title: str, signed: bool = False
) -> Figure:
    """Draw lines of as many small images, {label: [(title, (height, width) numbers)]}.

    If `signed`, zero is white, positive red and negative blue; else it is the darker the more.
    """
    across = max(len(line) for line in panels.values())
    width, height = SIZE * across + 0.4, (SIZE + 0.22) * len(panels) + 0.5
    figure, all_axes = parts.grid_of(len(panels), across, (width, height), title, 10)
    for line, (label, cells) in zip(all_axes, panels.items(), strict=True):
        for axes, (name, values) in zip(line, cells, strict=True):
            top = float(np.abs(values).max()) or 1.0
            colours, low = ("RdBu_r", -top) if signed else ("magma_r", 0.0)
            axes.imshow(values, cmap=colours, vmin=low, vmax=top)
            axes.set_title(parts.plain(name), fontsize=8)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(parts.plain(label), fontsize=9)
    return figure


def against_cycles(
    curves: Mapping[str, list[Row]], *, line: tuple[float, str], title: str
) -> Figure:
    """Draw test accuracy against the cycle of training, of {label: rows of both}."""
    figure, (axes,) = parts.side_by_side(1, 7, 4.5, title)
    for index, (label, rows) in enumerate(curves.items()):
        parts.line_with_band(axes, rows, "cycle", "test_accuracy", parts.style(index, label, 4))
    parts.horizontal(axes, line)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("cycle of the schedule")
    parts.measure_axis(axes, "test accuracy (%)", percent=True)
    axes.legend()
    return figure
