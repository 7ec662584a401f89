"""TFRecord shards in TensorFlow Datasets' layout -> images and labels, whole or as a stream."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import PreparedDataset, Split, augmentation, damage
from lottery_tf.datasets.decoding import decoder, deserializer, parser
from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.pruning.streams import Noise


def read(directory: PreparedDataset, split: str) -> tuple[Array, Array]:
    """A whole split of images of one size in memory, in the order of its shards.

    Returns:
        Images, uint8 or float32 (examples, height, width, channels), and labels, int32
        (examples,).

    Raises:
        InputError: a shard that is damaged or has not the number of examples that the dataset
            says; it names the file. Or the split is larger than the memory.
    """
    shape = directory.splits[split].examples, *directory.input_shape
    try:
        images = np.empty(shape, directory.pixels)
    except (MemoryError, ValueError):
        raise InputError(
            f"The {split} split of {directory.path} does not fit into memory: "
            f"{' x '.join(map(str, shape))} values of {directory.pixels}. Add --resident=off."
        ) from None
    labels = np.empty(len(images), np.int32)
    parse, start = parser(directory), 0
    for shard in directory.splits[split].shards:
        batches = damage.of_shard(shard, parse)
        stop = start + shard.used
        images[start:stop] = np.concatenate([some for some, _ in batches])[shard.taken]
        labels[start:stop] = np.concatenate([some for _, some in batches])[shard.taken]
        start = stop
    damage.check_labels(directory, split, labels)
    return images, labels


def stream(
    directory: PreparedDataset,
    split: Split,
    noise: Noise,
    *,
    epoch: int,
    window: int,
    batch_size: int,
    augment: bool = True,
    steps: tuple[int, int | None] = (0, None),
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """The batches of one epoch of training, read from the shards in `visit_order`.

    Holds three windows of undecoded records at most, and a few batches. Images of varying size are
    cropped while they are decoded; those of one size are augmented later, on the device.

    Args:
        directory: datasets.PreparedDataset.
        split: the datasets.Split to visit.
        noise, epoch, window: as in visit_order.
        batch_size: examples of a global batch.
        augment: whether images of varying size are cropped at random, or in the centre.
        steps: first batch, and the one after the last; full batches only.
        part: (index, count): which of the equal parts of each batch to decode.

    Returns:
        A tf.data.Dataset of (images (rows, h, w, c), labels int32 (rows,), draws
        int32 (rows, DRAWS)).
    """
    rows = batch_size // part[1]
    last = split.examples // batch_size if steps[1] is None else steps[1]
    places: Array = np.arange(steps[0] * batch_size, last * batch_size).reshape(-1, part[1], rows)
    places = places[:, part[0]].ravel()  # in the epoch, of the rows to decode
    records = _visited(split, noise, epoch, places, steps[0] * batch_size // window, window)
    decode = decoder(directory, augment)
    decoded = records.map(lambda record, draws: (*decode(record, draws), draws), tf.data.AUTOTUNE)
    return decoded.batch(rows, drop_remainder=True).prefetch(2)


def _visited(split, noise, epoch, places, first_window, window):
    """(serialized example, its draws) at each of `places` in an epoch, from a window on."""
    order, positions, examples = visit_order(split.lengths, noise, epoch, window=window)
    inside = tf.constant((positions[places] % window).astype(np.int32))
    draws = tf.constant(augmentation.draw(noise, epoch, split.examples)[examples][places])
    # Each element is a window of records, and which places are visited in it.
    windows = np.arange(first_window, -(-len(positions) // window))
    bounds = np.searchsorted(places, np.append(windows, windows[-1] + 1) * window)
    visits = tf.data.Dataset.from_tensor_slices((bounds[:-1], bounds[1:]))
    # The next window is read while one is decoded.
    records = _records(split, order).batch(window).skip(first_window).prefetch(1)

    def visit(window, bounds):
        some = slice(bounds[0], bounds[1])
        return tf.gather(window, inside[some]), draws[some]

    return tf.data.Dataset.zip(records, visits).map(visit).unbatch()


def stream_in_order(
    directory: PreparedDataset, split: str, *, batch_size: int, part: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """A split, in the order of its shards, in batches; the last one may be smaller.

    Args:
        part: (index, count): every count-th example from the index-th on.

    Returns:
        A tf.data.Dataset of (images, labels int32); images of varying size are cropped in
        the centre.
    """
    decode, shards = decoder(directory, augment=False), directory.splits[split]
    index, count = part
    records = _records(shards, range(len(shards.shards))).shard(count, index)
    return records.map(decode, tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def stream_raw(directory: PreparedDataset, split: str, *, size: int = 0,
               batch_size: int = 500) -> Iterator[tuple[Array, Array]]:  # fmt: skip
    """Yields (images with the pixels as stored, labels int32) in the order of the shards.

    Args:
        size: height and width to which each image is cropped in the centre; 0: as they are.

    Raises:
        InputError: a shard is damaged.
    """
    deserialize, channels = deserializer(directory, False), directory.input_shape[-1]
    records = _records(directory.splits[split], range(len(directory.splits[split].shards)))

    def decode(record):
        image, label = deserialize(record)
        if size:
            image = augmentation.centre_crop(image, size, channels)
        return image, label

    batches = records.map(decode, tf.data.AUTOTUNE).batch(batch_size)
    with damage.naming_the_damaged(directory):
        yield from batches.as_numpy_iterator()


def _records(split, order):
    """The serialized examples of a split's shards in an order, the used ones of each."""
    paths = tf.constant([str(split.shards[index].path) for index in order])
    used = tf.constant([split.shards[index].used for index in order], tf.int64)
    shards = tf.data.Dataset.from_tensor_slices((paths, used))
    if all(shard.chosen is None for shard in split.shards):
        return shards.flat_map(lambda path, used: tf.data.TFRecordDataset(path).take(used))
    # One bool per record, of the shards one after the other.
    is_used = np.zeros(sum(shard.examples for shard in split.shards), bool)
    starts = np.cumsum([0, *(split.shards[index].examples for index in order)])
    for start, index in zip(starts, order, strict=False):
        shard = split.shards[index]
        is_used[start : start + shard.examples][shard.taken] = True
    chosen = tf.constant(is_used)

    def used_of(path, start):
        places = tf.data.TFRecordDataset(path).enumerate(start)
        return places.filter(lambda place, _: chosen[place]).map(lambda _, record: record)

    return tf.data.Dataset.from_tensor_slices((paths, starts[:-1])).flat_map(used_of)
