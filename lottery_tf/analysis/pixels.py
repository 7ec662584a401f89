"""Which pixels a ticket looks at, and whether its units look at places.

Of the first kernel, where it is of a dense layer on images:

    pixels           pixels with a surviving weight
    distance         mean distance, in pixels, of two surviving weights of one unit
    chance_distance  the same of two weights of any units, from different inputs
    neighbours       of pairs of surviving weights of one unit, the part that is on pixels beside or
                     above one another, over that part of pairs of any units, from different inputs

So a unit that looks at one place is told from units that all look at the middle of the image: by
chance `neighbours` is 1. Redman et al. 2024 found that IMP leaves local receptive fields; these
measures are our own.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from math import nan
from typing import ClassVar

import numpy as np

from lottery_tf.analysis.measure import Chart, Column, Findings, Picture, TableBeside, usual
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import Groups, Rounds, metrics_with, select_common_rounds
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array, Masks
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

Shape = tuple[int, int, int]  # height, width, channels
DRAWN_ROUNDS, DRAWN_UNITS = 6, 6
COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "layer_density": Column(
        "of the layer", "{:.2%}", "fraction of the first layer's weights that is alive"
    ),
    "pixels": Column("pixels", "{:.0f}", "number of pixels with a surviving weight"),
    "distance": Column("distance", "{:.2f}", "mean distance of two weights of a unit", "pixels"),
    "chance_distance": Column(
        "of any units", "{:.2f}", "mean distance of two weights of any units", "pixels"
    ),
    "neighbours": Column(
        "neighbours",
        "{:.2f}",
        "fraction of a unit's pairs on neighbouring pixels, over that of pairs of any units",
    ),
}


def weights_per_pixel(masks: Masks, shape: Shape) -> Array:
    """Return the surviving weights of the first layer at each pixel, all channels together.

    The first of the masks is of a dense layer on flattened images of a shape; returns (height,
    width) counts.
    """
    first = next(iter(masks.values()))  # (height * width * channels, units)
    return first.sum(1).reshape(shape).sum(2)


def kernels_in_order(run: RunDir) -> dict[str, tuple[int, ...]]:
    """Return {path: shape} of the kernels of a run, in the order of the network.

    A file of masks has the kernels of a nested model backwards, a file of weights forwards.
    """
    first = FinishedRound(run.path, 0)
    kernels = first.shapes()
    return {path: kernels[path] for path in first.shapes("final") if path in kernels}


def image_shape_of(run: RunDir, kernels: Mapping[str, tuple[int, ...]]) -> Shape | None:
    """Return the shape of the images that a first dense layer sees; None without such a layer.

    data.json has it; a run of a version without it has square images, gray or of 3 colours. The
    kernels are {path: shape} in the order of the network.
    """
    inputs, *others = next(iter(kernels.values()))
    if len(others) != 1:
        return None  # a convolution
    if (found := provenance.recorded(run.path)) is None:
        sides = {channels: math.isqrt(inputs // channels) for channels in (1, 3)}
        candidates = [(side, side, channels) for channels, side in sides.items()]
    else:
        sizes = re.findall(r"(\d+) x (\d+) x (\d+)", str(found.get("image")))
        candidates = [(int(height), int(width), int(channels)) for height, width, channels in sizes]
    return next((shape for shape in candidates if math.prod(shape) == inputs), None)


def counts_of_rounds(run: RunDir, rounds: list[int]) -> dict[int, Array]:
    """Return {round: what `weights_per_pixel` gives}; empty without a dense layer on images."""
    kernels = kernels_in_order(run)
    path, masks = next(iter(kernels)), {round: run.masks(round) for round in rounds}
    if not (shape := image_shape_of(run, kernels)):
        return {}
    return {round: weights_per_pixel({path: of[path]}, shape) for round, of in masks.items()}


def of_mask(mask: Array, shape: Shape) -> Row:
    """Return {layer_density, pixels, distance, chance_distance, neighbours} of a layer's mask.

    The mask is bool (height * width * channels, units). A value is NaN where there are no two such
    weights.
    """
    alive = mask.astype(np.float64)
    inputs, units = alive.sum(1), alive.sum(0)  # weights at each
    rows, columns, _ = np.indices(shape).reshape(3, -1)
    apart = np.hypot(rows[:, None] - rows, columns[:, None] - columns)  # (inputs, inputs), pixels
    pairs = (units * (units - 1)).sum()  # ordered ones
    any_pairs = inputs.sum() ** 2 - (inputs**2).sum()
    beside, expected = _side_by_side(alive, shape), _side_by_side(inputs, shape) * pairs
    return {
        "layer_density": float(mask.mean()),
        "pixels": int(mask.reshape(*shape, -1).any((2, 3)).sum()),
        "distance": float((alive * (apart @ alive)).sum() / pairs) if pairs else nan,
        "chance_distance": float(inputs @ apart @ inputs / any_pairs) if any_pairs else nan,
        "neighbours": float(beside * any_pairs / expected) if expected else nan,
    }


def _side_by_side(values: Array, shape: Shape) -> float:
    """Return the sum of products of values (inputs, …) on neighbouring pixels of a channel."""
    of = values.reshape(*shape, -1)
    return (of[1:] * of[:-1]).sum() + (of[:, 1:] * of[:, :-1]).sum()


def first_layer(run: RunDir, image_shape: Sequence[str | int] = ()) -> tuple[str, Shape]:
    """Return the path of the first kernel, and the shape of the images that it is on.

    That is height, width and channels, by default those of the run's data.

    Raises:
        InputError: the kernel is not (inputs, units), on images of such a shape.
    """
    path, shape = next(iter(kernels_in_order(run).items()))
    if len(shape) != 2:
        raise InputError(
            f"{run.path}: expected a network whose first layer is dense, on images. Its first "
            f"kernel {path} is {shape}."
        )
    try:
        height, width, channels = map(int, image_shape or image_shape_of(run, {path: shape}) or ())
    except ValueError:
        height = width = channels = 0
    if min(height, width, channels) < 1 or height * width * channels != shape[0]:
        none = "none, and neither its data.json nor a square image fits"
        raise InputError(
            f"--image_shape: expected height,width,channels of {shape[0]} inputs, as of {path} "
            f"{shape} in {run.path}. Received: {','.join(map(str, image_shape)) or none}"
        )
    return path, (height, width, channels)


def of_rounds(runs: RunDir | Groups, *, image_shape: Sequence[str | int] = ()) -> list[Row]:
    """Return rows of {run, round, density} and what `of_mask` gives, of a run or {label: runs}."""

    def rows_of(run: RunDir) -> list[Row]:
        path, shape = first_layer(run, image_shape)
        check_files(finished(run))
        return [
            row | of_mask(run.masks(row["round"])[path], shape)
            for row in metrics_with(run, "density")
        ]

    return side_by_side(runs, rows_of)


@dataclasses.dataclass
class Pixels(TableBeside):
    """Shows which pixels a ticket reads, and whether its units read places (Redman et al. 2024).

    python -m tools.pixels --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    at_rounds: Rounds = flag((), "Rounds to draw, separated by commas. Default: six of all.")
    image_shape: Sequence[str | int] = flag(
        (),
        "Height,width,channels of the images that the first layer reads. Default: those of the "
        "run's data, or square images of one or three channels.",
    )

    name = "pixels"
    columns = COLUMNS
    title = "Pixels that the first layer looks at"
    csv_files: ClassVar = {"pixels.csv": "one row for each run and round"}
    picture_tags: ClassVar = {
        "pixels/neighbours": ("pixels_neighbours.png", "local receptive fields against density"),
        "pixels/weights": ("pixels.png", "surviving weights of each pixel"),
        "pixels/units": ("pixels_units.png", "weights of six units of the first layer"),
        "pixels/units_{label}": ("pixels_units_{label}.png", "the same of --other_run"),
    }
    chart: ClassVar = Chart(
        "neighbours",
        "neighbours among pairs of a unit / of any units",
        line=(1.0, "pairs of any units"),
        by="run",
        tag="pixels/neighbours",
        end="_neighbours",
    )

    def prepare(self) -> None:
        """Choose the rounds to draw: those of --at_rounds, or some."""
        self.firsts = {label: runs[0] for label, runs in self.groups.items()}
        count = min(run.finished_rounds() for run in self.firsts.values())
        spread = sorted({round(place) for place in np.linspace(0, count - 1, DRAWN_ROUNDS)})
        self.drawn = select_common_rounds(self.firsts.values(), self.at_rounds, usual=spread)

    def measure(self, *_: object) -> list[Row]:
        return of_rounds(self.groups, image_shape=self.image_shape)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, its chart, and pictures of pixels and units of the first runs."""
        from lottery_tf.plots import figures

        (usual,) = super().findings(run, value, title)
        counts, pictures = {}, {}
        for index, (label, of) in enumerate(self.firsts.items()):
            path, shape = first_layer(of, self.image_shape)
            metrics, masks = of.metrics(), {r: of.masks(r)[path] for r in self.drawn}
            titles = {r: f"{100 * metrics[r]['density']:.3g}%" for r in self.drawn}
            weights = {titles[r]: of.final(r)[path] * mask for r, mask in masks.items()}
            counts[label] = [
                (titles[r], weights_per_pixel({path: mask}, shape)) for r, mask in masks.items()
            ]
            most = np.argsort(-masks[self.drawn[-1]].sum(0), kind="stable")[:DRAWN_UNITS]
            units = {
                f"unit {unit}": [(t, w[:, unit].reshape(shape).sum(2)) for t, w in weights.items()]
                for unit in most
            }
            figure = figures.images(
                units, title=f"weights of units, by density: {label}", signed=True
            )
            end = f"_units_{label}" if index else "_units"
            pictures[f"pixels/{end[1:]}"] = Picture(figure, end)
        title = "surviving weights of each pixel, by density (each on its own scale, from none)"
        of_all = {"pixels/weights": Picture(figures.images(counts, title=title))}
        return [usual._replace(pictures={**usual.pictures, **of_all, **pictures})]


MEASURE = Pixels
