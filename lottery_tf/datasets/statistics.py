"""What the pixels of a dataset are normalised by."""

from typing import Any

import numpy as np

from lottery_tf.datasets import DATASETS, USERS_OWN, PreparedDataset, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.method import Array

MEASURED_EXAMPLES = 1000


def channel_statistics(config: Any, directory: PreparedDataset) -> tuple[Array, Array]:
    """Mean and standard deviation per channel of pixel / 255, float32 (channels,) each.

    Of a dataset of the user's own, those of its first 1,000 training examples.
    """
    known = DATASETS.get(config.dataset, USERS_OWN)
    if known.mean:
        if len(known.mean) != directory.image_shape[-1]:
            raise InputError(
                f"{directory.path}: expected {len(known.mean)} channels. Found: "
                f"{directory.image_shape[-1]}"
            )
        return np.asarray(known.mean, np.float32), np.asarray(known.std, np.float32)
    batches = tfrecords.stream_in_order(directory, "train", batch_size=MEASURED_EXAMPLES)
    images = next(iter(batches))[0].numpy() / np.float32(255)
    return images.mean((0, 1, 2)), np.maximum(images.std((0, 1, 2)), 1e-3)
