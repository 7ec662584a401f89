"""Figures from tables, to be saved with savefig; `title` stands above. No display is needed."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.plots.axes import (
    COLOURS,
    DENSITY,
    ENDS,
    PERCENT,
    density_axis,
    measure_axis,
    plain,
    round_numbers,
    side_by_side,
    style,
    title_above,
    with_ends,
    write_in_cells,
)

FEW = 12  # rounds, whose values a matrix has room for
LATEX = {"pgf"}  # matplotlib writes it by a program that may not be there


def check_format(path: str) -> None:
    """Raises InputError if the ending of a picture's file is no format that matplotlib writes."""
    formats = sorted(Figure().canvas.get_supported_filetypes().keys() - LATEX)
    ending = pathlib.Path(path).suffix[1:].lower()
    if ending not in formats:
        raise InputError(
            f"Pictures are written as {', '.join(formats)}, by the ending of the file. Received: "
            f"{path}"
        )


def accuracy_against_density(runs: Mapping[str, list[Row]], *, title: str = "") -> Figure:
    """Test accuracy against density, as Fig. 1 of the paper, of {label: RunDir.metrics()}."""
    curves = {label: (rows, "test_accuracy") for label, rows in runs.items()}
    return against_density(curves, what="test accuracy (%)", percent=True, title=title)


def against_density(curves: Mapping[str, tuple[list[Row], str]], *, what: str,
                    percent: bool = False, line: tuple[float, str] | None = None,
                    title: str = "") -> Figure:  # fmt: skip
    """Measures of rounds against density (%, logarithmic, falling); of one density, as bars.

    Args:
        curves: {label: (rows, column)}; rows have `density`, the column, and, where they are means
            of replicates, its _min and _max, which become error bars.
        what: the label of the measure, with its unit.
        percent: whether the measure is a part of one, shown in percent.
        line: (value, label) of a horizontal line; none by default.
    """
    figure, (axes,) = side_by_side(1, 7, 4.5)
    densities = {round(row["density"], 9) for rows, _ in curves.values() for row in rows}
    alone = len(densities) == 1
    for index, (label, (rows, column)) in enumerate(curves.items()):
        rows, values, errors = with_ends(rows, column)
        if alone:
            _bars(axes, index, values, errors, percent=percent)
        else:
            places = [row["density"] for row in rows]
            axes.errorbar(places, values, errors, capsize=2, **style(index, label, 4))
    if line:
        axes.axhline(line[0], color="0.4", linestyle="--", linewidth=1, label=plain(line[1]))
    if alone:
        axes.set_xticks(range(len(curves)), [plain(label).replace(", ", ",\n") for label in curves])
        axes.set_axisbelow(True)  # the grid, behind the bars
        axes.set_xlabel(f"at density {densities.pop():.2%}")
    else:
        density_axis(axes)
    measure_axis(axes, what, percent=percent)
    title_above(figure, title)
    if line or not alone:
        axes.legend()
    return figure


def _bars(axes, place, values, errors, *, percent):
    """A bar at a place for each value, with its number above."""
    colour = COLOURS[place % len(COLOURS)]
    errors = errors if errors is not None and errors.any() else None
    bars = axes.bar([place] * len(values), values, 0.6, yerr=errors, capsize=4, color=colour)
    axes.bar_label(bars, [f"{100 * value:.3g}" if percent else f"{value:.3g}" for value in values])
    axes.margins(y=0.1)


def matrix(values: np.ndarray, run: Any, other: Any, *, what: str, title: str,
           scale: tuple[float, float] = (0.0, 1.0), init: bool = False) -> Figure:  # fmt: skip
    """A matrix of a measure between the rounds of a run and of another, as Fig. 4 of the paper.

    Where the rounds are few, the values stand in the cells.

    Args:
        values: (rounds, other's rounds) numbers; NaN stays white.
        run, other: RunDirs; None for `run` itself.
        what: the label of the colours, with the unit.
        scale: the values of the first and the last colour, which what lies beyond has too.
        init: whether the last row and column are the initialization.
    """
    rows, columns = (
        [f"{100 * row['density']:.3g}" for row in of.metrics()[: size - init]] + ["init"] * init
        for of, size in zip((run, other or run), values.shape, strict=True)
    )
    title += f" (rows) and {other.path.name} (columns)" if other else ""
    size = 2.6 + 0.2 * max(len(rows), len(columns), 10)
    figure, (axes,) = side_by_side(1, size + 0.9, size)
    low, high = scale
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
    if max(values.shape) <= FEW:
        write_in_cells(axes, values, (values - low) / (high - low or 1.0))
    for ticks, labels in ((axes.set_xticks, columns), (axes.set_yticks, rows)):
        ticks(range(len(labels)), labels, fontsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel(DENSITY)
    axes.set_ylabel(DENSITY)
    title_above(figure, title, 10)
    beyond = bool((values < low).any()), bool((values > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    colours = figure.colorbar(image, shrink=0.8, extend=extend.get(beyond, "neither"))
    colours.set_label(plain(what))
    return figure


def paths(panels: Mapping[str, list[Row]], *, columns: Mapping[str, tuple[str, bool]], title: str,
          ends: tuple[str, str]) -> Figure:  # fmt: skip
    """Measures along lines between networks, as Fig. 8 (left) of the paper.

    Args:
        panels: {label of a line: rows with alpha and the columns}.
        columns: {column: (label with unit, whether it is shown in percent)}, a panel each.
        ends: what the two ends of a line are.
    """
    figure, all_axes = side_by_side(len(columns), 5.2 * len(columns), 4.2)
    for axes, (column, (what, percent)) in zip(all_axes, columns.items(), strict=True):
        for index, (label, rows) in enumerate(panels.items()):
            alphas = [row["alpha"] for row in rows]
            axes.plot(alphas, [row[column] for row in rows], **style(index, label, 3))
            if f"{column}_min" in rows[0]:
                low, high = ([row[f"{column}_{end}"] for row in rows] for end in ENDS)
                axes.fill_between(alphas, low, high, color=COLOURS[index % 7], alpha=0.15)
        axes.set_xlabel(plain(f"alpha: 0 = {ends[0]}, 1 = {ends[1]}"))
        measure_axis(axes, what, percent=percent)
    all_axes[-1].legend(fontsize=8)
    title_above(figure, title)
    return figure


def histograms(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], *,
               title: str, most: float | None = None) -> Figure:  # fmt: skip
    """Histograms of weights, as Fig. 5 of the paper.

    Args:
        panels: {title: {label: (counts, edges)}}; counts (bins,) become parts of all.
        title: above all.
        most: the largest |weight| that is shown; by default all are.
    """
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(4.8, 3.2 * across), 2.6 * down + 0.4), layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, series) in zip(all_axes.flat, panels.items(), strict=False):
        for index, (label, (counts, edges)) in enumerate(series.items()):
            parts = np.asarray(counts) / max(np.sum(counts), 1)
            axes.stairs(parts, edges, color=COLOURS[index % 7], fill=True, alpha=0.25)
            axes.stairs(parts, edges, color=COLOURS[index % 7], label=plain(label))
        axes.set_title(plain(name), fontsize=9)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.tick_params(labelsize=8)
        if most:
            axes.set_xlim(-most, most)
    for axes in all_axes[:, 0]:
        axes.set_ylabel("surviving weights (%)", fontsize=9)
    for axes in all_axes[-1]:
        axes.set_xlabel("weight", fontsize=9)
    all_axes[0, 0].legend(fontsize=8)
    title_above(figure, title)
    return figure


def layers(rows: Mapping[str, list[Row]], *, columns: Mapping[str, tuple[str, bool]],
           title: str) -> Figure:  # fmt: skip
    """Measures of each layer against density, a panel for each measure.

    Args:
        rows: {layer: rows with network_density and the columns}.
        columns: {column: (label in percent, whether it is logarithmic)}, parts of one.
    """
    figure, all_axes = side_by_side(len(columns), 5.2 * len(columns) + 1.5, 4.5)
    # Of many the order tells, by colours that neither a white nor a dark page hides.
    many = matplotlib.colormaps["viridis"](np.linspace(0.3, 0.85, max(len(rows), 2)))
    colours = COLOURS if len(rows) < len(COLOURS) else many
    for axes, (column, (what, logarithmic)) in zip(all_axes, columns.items(), strict=True):
        for colour, (layer, points) in zip(colours, rows.items(), strict=False):
            values = [point[column] for point in points]
            places = [point["network_density"] for point in points]
            axes.plot(places, values, marker=".", color=colour, label=plain(layer))
        density_axis(axes)
        if logarithmic:
            axes.set_yscale("log")
            round_numbers(axes.yaxis)
        measure_axis(axes, what, percent=True)
    all_axes[-1].legend(
        fontsize=7, ncols=1 + len(rows) // 24, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    title_above(figure, title)
    return figure


def heat_maps(panels: Mapping[str, np.ndarray], *, what: str) -> Figure:
    """Images of counts side by side, each from 0 to its largest: {title: (height, width)}."""
    figure, all_axes = side_by_side(len(panels), 2.5 * len(panels), 2.4)
    for axes, (title, counts) in zip(all_axes, panels.items(), strict=True):
        image = axes.imshow(counts, cmap="viridis", vmin=0, vmax=max(counts.max(), 1))
        axes.set_axis_off()
        axes.set_title(plain(title))
        colours = figure.colorbar(image, ax=axes, shrink=0.75)
        colours.locator = matplotlib.ticker.MaxNLocator(4, integer=True)
        colours.update_ticks()
    colours.set_label(plain(what))
    return figure
