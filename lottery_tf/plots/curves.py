"""Curves along what is no density."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lottery_tf.plots import Row
from lottery_tf.plots.axes import measure_axis, plain, side_by_side, style, title_above


def against_cycles(curves: Mapping[str, list[Row]], *, line: tuple[float, str],
                   title: str) -> Figure:  # fmt: skip
    """Test accuracy against the cycle of training, of {label: rows of cycle, test_accuracy}.

    Args:
        curves: rows may have test_accuracy_min and _max of replicates, which become a band.
        line: (accuracy, label) of a horizontal line.
        title: stands above.
    """
    figure, (axes,) = side_by_side(1, 7, 4.5)
    for index, (label, rows) in enumerate(curves.items()):
        cycles = [row["cycle"] for row in rows]
        look = style(index, label, 4)
        axes.plot(cycles, [row["test_accuracy"] for row in rows], **look)
        if "test_accuracy_min" in rows[0]:
            ends = ([row[f"test_accuracy_{end}"] for row in rows] for end in ("min", "max"))
            axes.fill_between(cycles, *ends, color=look["color"], alpha=0.15)
    axes.axhline(line[0], color="0.4", linestyle="--", linewidth=1, label=plain(line[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("cycle of the schedule")
    measure_axis(axes, "test accuracy (%)", percent=True)
    title_above(figure, title)
    axes.legend()
    return figure
