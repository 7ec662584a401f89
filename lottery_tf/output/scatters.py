"""A measure against others, a point for each setting. No display is needed."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lottery_tf.output import Row
from lottery_tf.output.axes import COLOURS, MARKERS, measure_axis

SMALLEST = 0.01  # point of percent: below it the axis is linear, to 0


def scatters(points: Mapping[str, Sequence[Row]], across: Mapping[str, tuple[str, bool]],
             column: str, *, what: str, name: str, title: str) -> Figure:  # fmt: skip
    """Panels side by side, of one measure against each of several others.

    Args:
        points: {label: rows of `column`, its _min and _max, the columns of `across`, and `name`}.
        across: {column: (label with unit, whether it is a part of one)}; rows may lack one.
        column: the measure upwards, a part of one.
        what: its label with unit.
        name: the column of the text beside a point.
        title: above all.
    """
    figure = Figure(figsize=(4.2 * len(across) + 0.4, 4.3), layout="constrained")
    all_axes = figure.subplots(1, len(across), squeeze=False, sharey=True)[0]
    for axes, (x, (label, percent)) in zip(all_axes, across.items(), strict=True):
        for index, (of, rows) in enumerate(points.items()):
            there = [row for row in rows if x in row]
            scale = 100 if percent else 1
            ends = [
                [100 * abs(row[column] - row[f"{column}_{end}"]) for row in there]
                for end in ("min", "max")
            ]
            places, heights = [scale * row[x] for row in there], [100 * r[column] for r in there]
            axes.errorbar(
                places, heights, ends, linestyle="", marker=MARKERS[index % len(MARKERS)],
                markersize=4, color=COLOURS[index % len(COLOURS)], elinewidth=0.7, label=of,
            )  # fmt: skip
            for row, place, height in zip(there, places, heights, strict=True):
                axes.annotate(
                    str(row[name]), (place, height), (3, 3), textcoords="offset points", fontsize=6
                )
        if percent:  # from a fraction of a point to tens; a test set's smallest step is a hundredth
            axes.set_xscale("symlog", linthresh=SMALLEST, linscale=0.3)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
        axes.set_xlabel(label)
        measure_axis(axes, "", percent=False)
    all_axes[0].set_ylabel(what)
    handles = all_axes[0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, loc="outside lower center", ncols=len(points))
    figure.suptitle(title, fontsize=11)
    return figure
