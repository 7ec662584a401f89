"""Pictures made of small images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lottery_tf.plots.axes import plain, title_above

SIZE = 1.35  # inches of an image


def grid(panels: Mapping[str, Sequence[tuple[str, np.ndarray]]], *, title: str,
         signed: bool = False) -> Figure:  # fmt: skip
    """Lines of images, {label of a line: [(title, (height, width) numbers)]}.

    Args:
        panels: lines of as many images each.
        title: stands above.
        signed: whether zero is white, positive red and negative blue; else the darker the more.
    """
    across = max(len(line) for line in panels.values())
    size = (SIZE * across + 0.4, (SIZE + 0.22) * len(panels) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(panels), across, squeeze=False)
    for line, (label, cells) in zip(all_axes, panels.items(), strict=True):
        for axes, (name, values) in zip(line, cells, strict=True):
            top = float(np.abs(values).max()) or 1.0
            colours, low = ("RdBu_r", -top) if signed else ("magma_r", 0.0)
            axes.imshow(values, cmap=colours, vmin=low, vmax=top)
            axes.set_title(plain(name), fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(plain(label), fontsize=9)
    title_above(figure, title, 10)
    return figure
