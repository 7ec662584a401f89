"""Which pixels a ticket looks at, and whether its units look at places. NumPy and matplotlib only.

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

from collections.abc import Sequence
from math import nan

import numpy as np

from lottery_tf.analysis import replicates
from lottery_tf.analysis.first_layer import image_shape as of_images
from lottery_tf.analysis.first_layer import kernels_in_order, weights_per_pixel
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Groups,
    Rounds,
    as_groups,
    metrics_with,
    select_common_rounds,
)
from lottery_tf.errors import InputError
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Array
from lottery_tf.runs.rounds import check_files, finished
from lottery_tf.runs.rundir import RunDir

Shape = tuple[int, ...]  # height, width, channels
DRAWN_ROUNDS, DRAWN_UNITS = 6, 6
COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "layer_density": ("of the layer", "{:.2%}"),
    "pixels": ("pixels", "{:.0f}"),
    "distance": ("distance", "{:.2f}"),
    "chance_distance": ("of any units", "{:.2f}"),
    "neighbours": ("neighbours", "{:.2f}"),
}


def of_mask(mask: Array, shape: Shape) -> Row:
    """{layer_density, pixels, distance, chance_distance, neighbours} of a layer's mask.

    NaN where there are no two such weights.

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


def _distances(shape):
    """The distances in pixels between all inputs, (inputs, inputs)."""
    rows, columns, _ = np.indices(shape).reshape(3, -1)
    return np.hypot(rows[:, None] - rows, columns[:, None] - columns)


def _side_by_side(values, shape):
    """The sum of products of values (inputs, …) on neighbouring pixels, of the same channel."""
    of = values.reshape(*shape, -1)
    return (of[1:] * of[:-1]).sum() + (of[:, 1:] * of[:, :-1]).sum()


def first_layer(run: RunDir, image_shape: Sequence[str | int] = ()) -> tuple[str, Shape]:
    """(path of the first kernel, shape of the images that it is on).

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
        found = tuple(map(int, image_shape)) or of_images(run, {path: shape}) or ()
    except ValueError:
        found = ()
    if len(found) != 3 or min(found) < 1 or np.prod(found) != shape[0]:
        given = (
            ",".join(map(str, image_shape))
            or "none, and neither its data.json nor a square image fits"
        )
        raise InputError(
            f"--image_shape: expected height,width,channels of {shape[0]} inputs, as of {path} "
            f"{shape} in {run.path}. Received: {given}"
        )
    return path, found


def of_rounds(runs: RunDir | Groups, *, image_shape: Sequence[str | int] = ()) -> list[Row]:
    """Rows of {run, round, density} and what `of_mask` gives, of a run, or of {label: runs}.

    Of several runs of a label, as replicates, the means with min and max.

    Raises:
        InputError: as `first_layer`; a file is missing or damaged.
    """
    rows = []
    for label, group in as_groups(runs).items():
        tables = [_of_run(run, *first_layer(run, image_shape)) for run in group]
        averaged = replicates.of_runs(group, tables, ("round",))
        rows += [{"run": label} | row for row in averaged]
    return rows


def _of_run(run, path, shape):
    check_files(finished(run))
    return [
        {name: row[name] for name in ("round", "density")}
        | of_mask(run.masks(row["round"])[path], shape)
        for row in metrics_with(run, "density")
    ]


def report_pixels(groups: Groups, output: Output, *, at_rounds: Rounds = (),
                  image_shape: Sequence[str | int] = ()) -> list[Row]:  # fmt: skip
    """Writes, draws and logs the rows of `of_rounds` with the first run, and returns them.

    Pictures of pixels and units are of the first run of each label, at `at_rounds`, or some.
    """
    firsts = {label: group[0] for label, group in groups.items()}
    first = next(iter(firsts.values()))
    count = min(run.finished_rounds() for run in firsts.values())
    spread = sorted({round(place) for place in np.linspace(0, count - 1, DRAWN_ROUNDS)})
    rounds = select_common_rounds(firsts.values(), at_rounds, usual=spread)

    def findings(_, rows, title):
        last = first.finished_rounds() - 1
        by_label = replicates.group(rows, ("run",))
        curves = {label: (of, "neighbours") for (label,), of in by_label.items()}
        what = "neighbours among pairs of a unit / of any units"
        line = (1.0, "pairs of any units")
        figure = figures.against_density(curves, what=what, line=line, title=title)
        layers = {label: first_layer(run, image_shape) for label, run in firsts.items()}
        pictures = {
            "pixels/neighbours": (last, "_neighbours", figure),
            "pixels/weights": (last, "", _draw_counts(firsts, layers, rounds)),
        }
        for index, (label, run) in enumerate(firsts.items()):
            end = f"_units_{label}" if index else "_units"
            pictures[f"pixels/{end[1:]}"] = (last, end, _draw_units(run, *layers[label], rounds,
                                                                    label))  # fmt: skip
        logged = [(row["round"], row["neighbours"]) for row in next(iter(by_label.values()))]
        curve = {"pixels/neighbours": ("neighbours", logged)}
        return [Findings("pixels", {"": rows}, pictures, curve)]

    def measure(*_):
        return of_rounds(groups, image_shape=image_shape)

    return report("pixels", [first], output, measure, findings)


def _titles(run, rounds):
    metrics = run.metrics()
    return [f"{100 * metrics[round]['density']:.3g}%" for round in rounds]


def _draw_counts(runs, layers, rounds):
    """Surviving weights of each pixel: a line of images for each run, an image for each round."""
    panels = {}
    for label, run in runs.items():
        _, shape = layers[label]
        counts = [weights_per_pixel(run.masks(r), shape) for r in rounds]
        panels[label] = list(zip(_titles(run, rounds), counts, strict=True))
    title = "surviving weights of each pixel, by density (each on its own scale, from none)"
    return figures.images(panels, title=title)


def _draw_units(run, path, shape, rounds, label):
    """Surviving weights of some units: a line for each, with an image for each round."""
    weights = [run.final(r)[path] * run.masks(r)[path] for r in rounds]
    units = np.argsort(-run.masks(rounds[-1])[path].sum(0), kind="stable")[:DRAWN_UNITS]
    panels = {
        f"unit {unit}": [
            (title, array[:, unit].reshape(shape).sum(2))
            for title, array in zip(_titles(run, rounds), weights, strict=True)
        ]
        for unit in units
    }
    return figures.images(panels, title=f"weights of units, by density: {label}", signed=True)
