"""Computes what the pixels of a dataset are normalised by."""

import numpy as np

from lottery_tf.datasets import DATASETS, USERS_OWN, DataFlags, PreparedDataset, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array

MEASURED_EXAMPLES = 1000


def channel_statistics(flags: DataFlags, directory: PreparedDataset) -> tuple[Array, Array]:
    """Return mean and standard deviation per channel of `scaled` pixels, float32 (channels,) each.

    Of a dataset of the user's own, those of its first 1,000 training examples.

    Raises:
        InputError: the images are not what a dataset of this name holds.
    """
    known = DATASETS.get(flags.dataset, USERS_OWN)
    fields = directory.fields
    if known.mean:
        if fields.dtype != "uint8" or fields.shape[-1] != len(known.mean):
            raise InputError(
                f"{directory.path}: expected images of {flags.dataset}, uint8 with "
                f"{len(known.mean)} channels. Found: {fields.image}. Name its directory by "
                "--dataset, as a dataset of your own."
            )
        return np.asarray(known.mean, np.float32), np.asarray(known.std, np.float32)
    batches = tfrecords.stream_in_order(directory, "train", batch_size=MEASURED_EXAMPLES)
    with tfrecords.naming_the_damaged(directory):
        images = next(batches.as_numpy_iterator())[0]
    if images.dtype == np.uint8:
        pixels = scaled(images)
        return pixels.mean((0, 1, 2)), np.maximum(pixels.std((0, 1, 2)), 1e-3)
    wide = images.astype(np.float64)  # float32 pixels may be of any size
    mean, std = wide.mean((0, 1, 2)), wide.std((0, 1, 2))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def scaled(images: Array) -> Array:
    """Return pixels as they are normalised, float32: of 8 bits / 255; float32 as they are."""
    return images / np.float32(255) if images.dtype == np.uint8 else images
