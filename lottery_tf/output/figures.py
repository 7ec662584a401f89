"""Figures from tables, to be saved with savefig; `title` stands above. No display is needed."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from lottery_tf.output import Row

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
DENSITY = "density: remaining / prunable weights (%)"
ENDS = ("min", "max")
PERCENT = matplotlib.ticker.FuncFormatter(lambda value, _: f"{100 * value:g}")


def accuracy_against_density(runs: Mapping[str, list[Row]], *, title: str = "") -> Figure:
    """Test accuracy against density, as Fig. 1 of the paper, of {label: RunDir.metrics()}."""
    curves = {label: (rows, "test_accuracy") for label, rows in runs.items()}
    return against_density(curves, what="test accuracy (%)", percent=True, title=title)


def against_density(curves: Mapping[str, tuple[list[Row], str]], *, what: str,
                    percent: bool = False, line: tuple[float, str] | None = None,
                    title: str = "") -> Figure:  # fmt: skip
    """Measures of rounds against density (%, logarithmic, falling).

    Args:
        curves: {label: (rows, column)}; rows have `density`, the column, and, where they are means
            of replicates, its _min and _max, which become error bars.
        what: the label of the measure, with its unit.
        percent: whether the measure is a part of one, shown in percent.
        line: (value, label) of a horizontal line; none by default.
    """
    figure, (axes,) = _panels(1, 7, 4.5)
    for index, (label, (rows, column)) in enumerate(curves.items()):
        rows = [row for row in rows if np.isfinite(row[column])]
        values = np.array([row[column] for row in rows])
        ends = [np.array([row.get(f"{column}_{end}", math.nan) for row in rows]) for end in ENDS]
        bars = np.abs(np.stack(ends) - values) if np.isfinite(ends).all() and rows else None
        densities_of_rows = [row["density"] for row in rows]
        axes.errorbar(densities_of_rows, values, bars, capsize=2, **_style(index, label, 4))
    if line:
        axes.axhline(line[0], color="0.4", linestyle="--", linewidth=1, label=line[1])
    _density_axis(axes)
    _measure_axis(axes, what, percent=percent)
    axes.set_title(title)
    axes.legend()
    return figure


def matrix(values: np.ndarray, run: Any, other: Any, *, what: str, title: str, top: float = 1.0,
           init: bool = False) -> Figure:  # fmt: skip
    """A matrix of a measure between the rounds of a run and of another, as Fig. 4 of the paper.

    Args:
        values: (rounds, other's rounds) numbers; NaN stays white.
        run, other: RunDirs; None for `run` itself.
        what: the label of the colours, with the unit.
        top: the highest of the colours, from 0; what lies beyond has the last colour.
        init: whether the last row and column are the initialization.
    """
    rows, columns = (
        [f"{100 * row['density']:.3g}" for row in of.metrics()[: size - init]] + ["init"] * init
        for of, size in zip((run, other or run), values.shape, strict=True)
    )
    title += f" (rows) and {other.path.name} (columns)" if other else ""
    size = 2.6 + 0.2 * max(len(rows), len(columns), 10)
    figure, (axes,) = _panels(1, size + 0.9, size)
    beyond = bool((np.nan_to_num(values) > top).any())
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=top)
    for ticks, labels in ((axes.set_xticks, columns), (axes.set_yticks, rows)):
        ticks(range(len(labels)), labels, fontsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel(DENSITY)
    axes.set_ylabel(DENSITY)
    axes.set_title(title, fontsize=10)
    colours = figure.colorbar(image, shrink=0.8, extend="max" if beyond else "neither")
    colours.set_label(what)
    return figure


def paths(panels: Mapping[str, list[Row]], *, columns: Mapping[str, tuple[str, bool]], title: str,
          ends: tuple[str, str]) -> Figure:  # fmt: skip
    """Measures along lines between networks, as Fig. 8 (left) of the paper.

    Args:
        panels: {label of a line: rows with alpha and the columns}.
        columns: {column: (label with unit, whether it is shown in percent)}, a panel each.
        ends: what the two ends of a line are.
    """
    figure, all_axes = _panels(len(columns), 5.2 * len(columns), 4.2)
    for axes, (column, (what, percent)) in zip(all_axes, columns.items(), strict=True):
        for index, (label, rows) in enumerate(panels.items()):
            alphas = [row["alpha"] for row in rows]
            axes.plot(alphas, [row[column] for row in rows], **_style(index, label, 3))
            if f"{column}_min" in rows[0]:
                low, high = ([row[f"{column}_{end}"] for row in rows] for end in ENDS)
                axes.fill_between(alphas, low, high, color=COLOURS[index % 7], alpha=0.15)
        axes.set_xlabel(f"alpha: 0 = {ends[0]}, 1 = {ends[1]}")
        _measure_axis(axes, what, percent=percent)
    all_axes[-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def histograms(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], *,
               title: str) -> Figure:  # fmt: skip
    """Histograms of weights, as Fig. 5 of the paper.

    The panels are {title: {label: (counts, edges)}}; counts (bins,) become parts of all.
    """
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.2 * across, 2.6 * down + 0.4), layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, series) in zip(all_axes.flat, panels.items(), strict=False):
        for index, (label, (counts, edges)) in enumerate(series.items()):
            parts = np.asarray(counts) / max(np.sum(counts), 1)
            axes.stairs(parts, edges, color=COLOURS[index % 7], fill=True, alpha=0.25)
            axes.stairs(parts, edges, color=COLOURS[index % 7], label=label)
        axes.set_title(name, fontsize=9)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.tick_params(labelsize=8)
    for axes in all_axes[:, 0]:
        axes.set_ylabel("surviving weights (%)", fontsize=9)
    for axes in all_axes[-1]:
        axes.set_xlabel("weight", fontsize=9)
    all_axes[0, 0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def layers(rows: Mapping[str, list[Row]], *, columns: Mapping[str, tuple[str, bool]],
           title: str) -> Figure:  # fmt: skip
    """Measures of each layer against density, a panel for each measure.

    Args:
        rows: {layer: rows with network_density and the columns}.
        columns: {column: (label in percent, whether it is logarithmic)}, parts of one.
    """
    figure, all_axes = _panels(len(columns), 5.2 * len(columns) + 1.5, 4.5)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, max(len(rows), 2)))
    for axes, (column, (what, logarithmic)) in zip(all_axes, columns.items(), strict=True):
        for colour, (layer, points) in zip(colours, rows.items(), strict=False):
            values = [point[column] for point in points]
            axes.plot([p["network_density"] for p in points], values, color=colour, label=layer)
        _density_axis(axes)
        if logarithmic:
            axes.set_yscale("log")
        _measure_axis(axes, what, percent=True)
    all_axes[-1].legend(
        fontsize=7, ncols=1 + len(rows) // 24, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    figure.suptitle(title, fontsize=11)
    return figure


def _panels(count, width, height):
    """(figure of some inches, its `count` axes side by side)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _style(index, label, size):
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "markersize": size, "label": label}


def _measure_axis(axes, what, *, percent):
    axes.set_ylabel(what)
    if percent:
        axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(alpha=0.3)


def _density_axis(axes):
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel(DENSITY)
