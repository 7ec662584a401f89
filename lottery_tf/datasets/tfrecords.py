"""TFRecord shards in TensorFlow Datasets' layout -> images and labels, whole or as a stream."""

import contextlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import PreparedDataset, Split, augmentation
from lottery_tf.datasets.decoding import decoder, deserializer, parser
from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError
from lottery_tf.method import Array
from lottery_tf.method.streams import Noise


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
        batches = _of_shard(shard, parse)
        stop = start + shard.used
        images[start:stop] = np.concatenate([some for some, _ in batches])[shard.taken]
        labels[start:stop] = np.concatenate([some for _, some in batches])[shard.taken]
        start = stop
    _check_labels(directory, split, labels)
    return images, labels


def check(directory: PreparedDataset, split: str, *, decode: bool = False) -> None:
    """Reads every record of a split; raises InputError as `read` does.

    Args:
        decode: whether to decode the images too.
    """
    parse = parser(directory) if decode else deserializer(directory, True)
    fields, labels = directory.fields, []

    def label(record):
        image, label = parse(record)
        if decode and image.dtype == tf.string:
            if fields.encoding == "jpeg":
                tf.debugging.Assert(tf.io.is_jpeg(image), ["Expected a JPEG"])
            image = tf.image.decode_image(image, fields.shape[-1], expand_animations=False)
        return tf.size(image), label  # of the size, as images that vary make no batch

    for shard in directory.splits[split].shards:
        found = np.concatenate([some for _, some in _of_shard(shard, label)])
        labels.append(found[shard.taken])
    _check_labels(directory, split, np.concatenate(labels))


def check_first(directory: PreparedDataset) -> None:
    """Decodes the first example of each split, before a network is built for what they should be.

    Raises:
        InputError: it is damaged, or not what features.json says.
    """
    parse = parser(directory)
    for split in directory.splits.values():
        path = split.shards[0].path
        try:
            list(tf.data.TFRecordDataset(str(path)).take(1).map(parse))
        except tf.errors.OpError as error:
            raise _damaged(path, error) from None


def _of_shard(shard, parse):
    """[(images, labels)] of all examples of a shard, in batches; InputError if it is damaged."""
    records = tf.data.TFRecordDataset(str(shard.path)).map(parse, tf.data.AUTOTUNE).batch(1024)
    try:
        batches = list(records.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise _damaged(shard.path, error) from None
    _check_count(shard, sum(len(labels) for _, labels in batches))
    return batches


@contextlib.contextmanager
def naming_the_damaged(directory: PreparedDataset) -> Iterator[None]:
    """Turns what TensorFlow raises for an image that it cannot decode into an InputError."""
    try:
        yield
    except tf.errors.OpError:
        for split in ("train", "test"):
            check(directory, split, decode=True)
        raise


def check_lengths(directory: PreparedDataset, split: str) -> None:
    """Counts the records of a split by their lengths alone, for what is too large to be read twice.

    Raises:
        InputError: a shard is cut short, or has not the number of examples that it should.
    """
    for shard in directory.splits[split].shards:
        size, position, found = shard.path.stat().st_size, 0, 0
        with open(shard.path, "rb", buffering=0) as file:
            while position < size:
                file.seek(position)
                # A record: its length in 8 bytes, 4 of checksum, the data, 4 of checksum.
                position += int.from_bytes(file.read(8), "little") + 16
                found += 1
        if position != size:
            raise _damaged(shard.path, f"record {found - 1} goes beyond the end of the file")
        _check_count(shard, found)


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


def _check_labels(directory, split, labels):
    wrong = np.flatnonzero((labels < 0) | (labels >= directory.classes))
    if wrong.size:
        raise InputError(
            f"{directory.path}: expected labels 0 to {directory.classes - 1}. Example {wrong[0]} "
            f"of the {split} split has {labels[wrong[0]]}."
        )


def _damaged(path, error):
    first_line = re.sub(r"\{\{.*?\}\} ?", "", str(error)).splitlines()[0]
    return InputError(
        f"{path} is damaged, or does not hold what features.json says; prepare the dataset again. "
        f"TensorFlow says: {first_line}"
    )


def _check_count(shard, found):
    if found != shard.examples:
        raise InputError(
            f"{shard.path} has {found} examples; dataset_info.json says {shard.examples}. Prepare "
            "the dataset again."
        )
