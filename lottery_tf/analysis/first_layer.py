"""The first kernel, where it is of a dense layer on images: their shape, weights at each pixel."""

import math
import re
from collections.abc import Mapping

from lottery_tf.pruning import Array, Masks
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir


def weights_per_pixel(masks: Masks, shape: tuple[int, int, int]) -> Array:
    """The surviving weights of the first layer at each pixel, all channels together.

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


def image_shape(run: RunDir, kernels: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int] | None:
    """Height, width and channels of the images that a first dense layer sees; None without such.

    data.json tells them; a run of a version without it has square images, gray or of 3 colours.

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
    """{round: what `weights_per_pixel` gives}; nothing of a network without such a layer.

    Raises:
        InputError: a file is missing or damaged.
    """
    maps: dict[int, Array] = {}
    kernels = kernels_in_order(run)
    for round in rounds:
        found = run.masks(round)
        masks = {path: found[path] for path in kernels}
        shape = image_shape(run, kernels)
        if shape:
            maps[round] = weights_per_pixel(masks, shape)
    return maps
