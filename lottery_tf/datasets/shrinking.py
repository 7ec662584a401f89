"""Smaller images, for studies on small machines: the mean of each block of pixels. NumPy only."""

import dataclasses

import numpy as np

from lottery_tf.datasets.raw import Sources
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array


def smaller(sources: Sources, factor: int) -> Sources:
    """The splits with images of 1 / factor of the height and width.

    Raises:
        InputError: images are stored as files, or their height or width is no multiple of factor.
    """
    return {split: _smaller(source, split, factor) for split, source in sources.items()}


def _smaller(source, split, factor):
    first = next(iter(source.examples()))[1]
    if not isinstance(first, np.ndarray):
        raise InputError(
            f"--shrink={factor} expects images of one size that are stored decoded. Those of the "
            f"{split} split are files, or of several sizes."
        )
    if any(size % factor for size in first.shape[:2]):
        height, width = first.shape[:2]
        raise InputError(
            f"--shrink={factor} expects a height and a width that it divides. Those of the {split} "
            f"split are {height} x {width}."
        )

    def examples():
        for key, image, label in source.examples():
            yield key, block_means(image, factor), label

    return dataclasses.replace(source, examples=examples)


def block_means(image: Array, factor: int) -> Array:
    """The mean of each factor x factor block of pixels, rounded if pixels are whole numbers.

    Args:
        image: (height, width, channels), of uint8, uint16 or float32.

    Returns:
        (height / factor, width / factor, channels), of the same type.
    """
    height, width, channels = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    means = blocks.mean((1, 3), dtype=np.float64)
    return (means if image.dtype.kind == "f" else np.rint(means)).astype(image.dtype)
