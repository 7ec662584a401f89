"""TFRecord shards in TensorFlow Datasets' layout -> images and labels, whole or as a stream."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError


def decoder(directory):
    """A function from a serialized example to (image uint8 (h, w, c), label int32)."""
    features = tfds.builder_from_directory(directory.path).info.features

    def decode(record):
        example = features.deserialize_example(record)
        return example["image"], tf.cast(example["label"], tf.int32)

    return decode


def read(directory, split):
    """A whole split in memory, in the order of its shards.

    Returns:
        Images, uint8 (examples, height, width, channels), and labels, int32 (examples,).

    Raises:
        InputError: a shard that is damaged or has not the number of examples that the dataset
            says; it names the file.
    """
    shards = directory.splits[split].shards
    images = np.empty((directory.splits[split].examples, *directory.image_shape), np.uint8)
    labels = np.empty(len(images), np.int32)
    decode, start = decoder(directory), 0
    for path, length in shards:
        records = tf.data.TFRecordDataset(str(path)).map(decode, tf.data.AUTOTUNE).batch(1024)
        try:
            batches = list(records.as_numpy_iterator())
        except tf.errors.OpError as error:
            raise _damaged(path, error) from None
        found = sum(len(some_labels) for _, some_labels in batches)
        if found != length:
            raise _wrong_count(path, found, length)
        for some_images, some_labels in batches:
            stop = start + len(some_labels)
            images[start:stop], labels[start:stop] = some_images, some_labels
            start = stop
    _check_labels(directory, split, labels)
    return images, labels


def check(directory, split):
    """Reads every record of a split without decoding it; raises InputError as `read` does."""
    for path, length in directory.splits[split].shards:
        try:
            found = sum(1 for _ in tf.data.TFRecordDataset(str(path)).batch(4096).unbatch())
        except tf.errors.OpError as error:
            raise _damaged(path, error) from None
        if found != length:
            raise _wrong_count(path, found, length)


def stream(directory, split, noise, *, epoch, window, batch_size, first_step=0):
    """The batches of one epoch of training, read from the shards in `visit_order`.

    Holds two windows of undecoded records at most, and a few batches.

    Returns:
        A tf.data.Dataset of (images uint8 (batch, h, w, c), labels int32 (batch,)), full batches
        only, from batch `first_step` on.
    """
    shards = directory.splits[split].shards
    lengths = [length for _, length in shards]
    order, positions, _ = visit_order(lengths, noise, epoch, window=window)
    paths = [str(shards[shard][0]) for shard in order]
    records = tf.data.TFRecordDataset(paths).batch(window)  # each element: a window
    inside = tf.data.Dataset.from_tensor_slices(positions % window).batch(window)
    first_window, skipped = divmod(first_step * batch_size, window)
    return (
        tf.data.Dataset.zip(records, inside)
        .skip(first_window)
        .map(tf.gather, num_parallel_calls=1)
        .unbatch()
        .skip(skipped)
        .map(decoder(directory), tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def stream_in_order(directory, split, *, batch_size):
    """A whole split, in the order of its shards, in batches; the last one may be smaller."""
    paths = [str(path) for path, _ in directory.splits[split].shards]
    records = tf.data.TFRecordDataset(paths).map(decoder(directory), tf.data.AUTOTUNE)
    return records.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _check_labels(directory, split, labels):
    wrong = np.flatnonzero((labels < 0) | (labels >= directory.classes))
    if wrong.size:
        raise InputError(
            f"{directory.path}: expected labels 0 to {directory.classes - 1}. Example {wrong[0]} "
            f"of the {split} split has {labels[wrong[0]]}."
        )


def _damaged(path, error):
    first_line = str(error).splitlines()[0]
    return InputError(
        f"{path} is damaged; prepare the dataset again. TensorFlow says: {first_line}"
    )


def _wrong_count(path, found, length):
    return InputError(
        f"{path} has {found} examples; dataset_info.json says {length}. Prepare the dataset again."
    )
