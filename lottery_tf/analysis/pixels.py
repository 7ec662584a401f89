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
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lottery_tf.analysis.measure import (
    BESIDE,
    Chart,
    Column,
    Findings,
    Picture,
    TableMeasure,
    usual,
)
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import Groups, Rounds, as_groups, metrics_with, select_common_rounds
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array, Masks
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

if TYPE_CHECKING:  # it takes half a second to import
    from matplotlib.figure import Figure

Shape = tuple[int, int, int]  # height, width, channels
DRAWN_ROUNDS, DRAWN_UNITS = 6, 6
COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "layer_density": Column("of the layer", "{:.2%}", "part of the first layer's weights alive"),
    "pixels": Column("pixels", "{:.0f}", "number of pixels with a surviving weight"),
    "distance": Column("distance", "{:.2f}", "mean distance of two weights of a unit, in pixels"),
    "chance_distance": Column(
        "of any units", "{:.2f}", "mean distance of two weights of any units, in pixels"
    ),
    "neighbours": Column(
        "neighbours",
        "{:.2f}",
        "part of the pairs of a unit on neighbouring pixels, over that part of pairs of any units",
    ),
}


def weights_per_pixel(masks: Masks, shape: Shape) -> Array:
    """Return the surviving weights of the first layer at each pixel, all channels together.

    Args:
        masks: {kernel path: bool array}; the first is of a dense layer on flattened images.
        shape: height, width and channels of the images.

    Returns:
        (height, width) counts.
    """
    first = next(iter(masks.values()))  # (height * width * channels, units)
    return first.sum(1).reshape(shape).sum(2)


def kernels_in_order(run: RunDir) -> dict[str, tuple[int, ...]]:
    """Return {path: shape} of the kernels of a run, in the order of the network.

    A file of masks has the kernels of a nested model backwards, a file of weights forwards.

    Raises:
        InputError: a file is missing or damaged.
    """
    first = FinishedRound(run.path, 0)
    kernels = first.shapes()
    return {path: kernels[path] for path in first.shapes("final") if path in kernels}


def image_shape_of(run: RunDir, kernels: Mapping[str, tuple[int, ...]]) -> Shape | None:
    """Return the shape of the images that a first dense layer sees; None without such a layer.

    data.json has it; a run of a version without it has square images, gray or of 3 colours.

    Args:
        run: its directory.
        kernels: {path: shape} in the order of the network.

    Raises:
        InputError: data.json is damaged.
    """
    inputs, *others = next(iter(kernels.values()))
    if len(others) != 1:
        return None  # a convolution
    found = provenance.recorded(run.path)
    if found is None:
        sides = {channels: math.isqrt(inputs // channels) for channels in (1, 3)}
        candidates = [(side, side, channels) for channels, side in sides.items()]
    else:
        sizes = re.findall(r"(\d+) x (\d+) x (\d+)", str(found.get("image")))
        candidates = [(int(height), int(width), int(channels)) for height, width, channels in sizes]
    return next((shape for shape in candidates if math.prod(shape) == inputs), None)


def counts_of_rounds(run: RunDir, rounds: list[int]) -> dict[int, Array]:
    """Return {round: what `weights_per_pixel` gives}; empty without a dense layer on images.

    Raises:
        InputError: a file is missing or damaged.
    """
    maps: dict[int, Array] = {}
    kernels = kernels_in_order(run)
    for round in rounds:
        found = run.masks(round)
        masks = {path: found[path] for path in kernels}
        shape = image_shape_of(run, kernels)
        if shape:
            maps[round] = weights_per_pixel(masks, shape)
    return maps


def of_mask(mask: Array, shape: Shape) -> Row:
    """Return {layer_density, pixels, distance, chance_distance, neighbours} of a layer's mask.

    A value is NaN where there are no two such weights.

    Args:
        mask: bool (height * width * channels, units).
        shape: of the images.
    """
    alive = mask.astype(np.float64)
    inputs, units = alive.sum(1), alive.sum(0)  # weights at each
    apart = _distances(shape)
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


def _distances(shape: Shape) -> Array:
    """Return the distances in pixels between all inputs, (inputs, inputs)."""
    rows, columns, _ = np.indices(shape).reshape(3, -1)
    return np.hypot(rows[:, None] - rows, columns[:, None] - columns)


def _side_by_side(values: Array, shape: Shape) -> float:
    """Return the sum of products of values (inputs, …) on neighbouring pixels of a channel."""
    of = values.reshape(*shape, -1)
    return (of[1:] * of[:-1]).sum() + (of[:, 1:] * of[:, :-1]).sum()


def first_layer(run: RunDir, image_shape: Sequence[str | int] = ()) -> tuple[str, Shape]:
    """Return the path of the first kernel, and the shape of the images that it is on.

    Args:
        run: its first kernel must be (inputs, units).
        image_shape: height, width, channels; by default those of the run's data.

    Raises:
        InputError: it is not on images of such a shape.
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
        given = (
            ",".join(map(str, image_shape))
            or "none, and neither its data.json nor a square image fits"
        )
        raise InputError(
            f"--image_shape: expected height,width,channels of {shape[0]} inputs, as of {path} "
            f"{shape} in {run.path}. Received: {given}"
        )
    return path, (height, width, channels)


def of_rounds(runs: RunDir | Groups, *, image_shape: Sequence[str | int] = ()) -> list[Row]:
    """Return rows of {run, round, density} and what `of_mask` gives, of a run or {label: runs}.

    Several runs of a label are replicates: means, min and max.

    Raises:
        InputError: as `first_layer`; a file is missing or damaged.
    """

    def rows_of(run: RunDir) -> list[Row]:
        path, shape = first_layer(run, image_shape)
        check_files(finished(run))
        return [
            {name: row[name] for name in ("round", "density")}
            | of_mask(run.masks(row["round"])[path], shape)
            for row in metrics_with(run, "density")
        ]

    return side_by_side(as_groups(runs), rows_of, ("round",))


@dataclasses.dataclass
class Pixels(TableMeasure):
    """Which pixels a ticket looks at, and whether its units look at places (Redman et al. 2024).

    python -m tools.pixels --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    at_rounds: Rounds = flag((), "Rounds to draw, with commas. Default: six of all.")
    image_shape: Sequence[str | int] = flag(
        (),
        "height,width,channels of the images that the first layer is on. Default: those of the "
        "run's data, or square ones of one or three channels.",
    )

    name = "pixels"
    columns = COLUMNS
    beside = True
    other_help = BESIDE
    title = "Pixels that the first layer looks at"
    chart: ClassVar = Chart(
        "neighbours",
        "neighbours among pairs of a unit / of any units",
        line=(1.0, "pairs of any units"),
        by="run",
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
        (usual,) = super().findings(run, value, title)
        last = run.finished_rounds() - 1
        layers = {label: first_layer(of, self.image_shape) for label, of in self.firsts.items()}
        counts = _draw_counts(self.firsts, layers, self.drawn)
        pictures = {"pixels/neighbours": usual.pictures["pixels"]._replace(end="_neighbours")}
        pictures["pixels/weights"] = Picture(last, "", counts)
        for index, (label, of) in enumerate(self.firsts.items()):
            end = f"_units_{label}" if index else "_units"
            units = _draw_units(of, *layers[label], self.drawn, label)
            pictures[f"pixels/{end[1:]}"] = Picture(last, end, units)
        return [dataclasses.replace(usual, pictures=pictures)]


def _titles(run: RunDir, rounds: list[int]) -> list[str]:
    metrics = run.metrics()
    return [f"{100 * metrics[round]['density']:.3g}%" for round in rounds]


def _draw_counts(
    runs: Mapping[str, RunDir], layers: Mapping[str, tuple[str, Shape]], rounds: list[int]
) -> "Figure":
    """Draw the surviving weights of each pixel: a line for each run, an image for each round."""
    from lottery_tf.plots import images

    panels = {}
    for label, run in runs.items():
        _, shape = layers[label]
        counts = [weights_per_pixel(run.masks(r), shape) for r in rounds]
        panels[label] = list(zip(_titles(run, rounds), counts, strict=True))
    title = "surviving weights of each pixel, by density (each on its own scale, from none)"
    return images.grid(panels, title=title)


def _draw_units(run: RunDir, path: str, shape: Shape, rounds: list[int], label: str) -> "Figure":
    """Draw the surviving weights of some units: a line for each, an image for each round."""
    from lottery_tf.plots import images

    weights = [run.final(r)[path] * run.masks(r)[path] for r in rounds]
    units = np.argsort(-run.masks(rounds[-1])[path].sum(0), kind="stable")[:DRAWN_UNITS]
    panels = {
        f"unit {unit}": [
            (title, array[:, unit].reshape(shape).sum(2))
            for title, array in zip(_titles(run, rounds), weights, strict=True)
        ]
        for unit in units
    }
    return images.grid(panels, title=f"weights of units, by density: {label}", signed=True)


MEASURE = Pixels
