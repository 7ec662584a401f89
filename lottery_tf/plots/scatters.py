"""A measure against others, a point for each setting. No display is needed."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lottery_tf.plots import Row
from lottery_tf.plots.axes import ENDS, measure_axis, plain, style, title_above

SMALLEST = 0.01  # point of percent: below it the axis is linear, to 0


def scatters(points: Mapping[str, Sequence[Row]], across: Mapping[str, tuple[str, bool]],
             column: str, *, what: str, name: str, key: str, title: str) -> Figure:  # fmt: skip
    """Panels of one measure against several others, a row of panels for each label.

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
    figure = Figure(figsize=(3.6 * len(across) + 1.2, 2.5 * len(points) + 1), layout="constrained")
    size = len(points), len(across)
    panels = figure.subplots(*size, squeeze=False, sharex="col", sharey="row")
    names = (str(row[name]) for rows in points.values() for row in rows)
    kinds, handles = list(dict.fromkeys(called.rstrip("*") for called in names)), {}
    for in_row, (of, rows) in zip(panels, points.items(), strict=True):
        for axes, (x, (label, percent)) in zip(in_row, across.items(), strict=True):
            for row in rows:
                if x in row:
                    called = str(row[name])
                    index = kinds.index(called.rstrip("*"))
                    handles[called] = _point(axes, row, x, column, percent, called, index)
            if percent:  # from a test set's smallest step, a hundredth of a point, to tens
                axes.set_xscale("symlog", linthresh=SMALLEST, linscale=0.3)
                axes.set_xlim(left=0)
                axes.xaxis.set_major_formatter("{x:g}")
            axes.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
            measure_axis(axes, of if axes is in_row[0] else "", percent=False)
            axes.set_xlabel(plain(label))
            axes.label_outer()
    entries = [plain(called) for called in handles]
    figure.legend(handles.values(), entries, title=plain(key), fontsize=8,
                  title_fontsize=8, loc="outside right upper")  # fmt: skip
    figure.supylabel(plain(what), fontsize=10)
    title_above(figure, title)
    return figure


def _point(axes, row, x, column, percent, called, index):
    """Draws a point with its bar."""
    place, height = row[x] * (100 if percent else 1), 100 * row[column]
    ends = [[100 * abs(row[column] - row[f"{column}_{end}"])] for end in ENDS]
    look = style(index, called, 5) | {"fillstyle": "none" if called.endswith("*") else "full"}
    return axes.errorbar([place], [height], ends, linestyle="", elinewidth=0.7, **look)
