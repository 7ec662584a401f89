"""Reads TFRecord shards as images and labels: a split whole, as a stream, or to check it.

Errors name the file that is damaged.
"""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lottery_tf.datasets import PreparedDataset, Split, augmentation
from lottery_tf.datasets.order import visit_order
from lottery_tf.datasets.splits import Shard, refuse_packed
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.pruning.streams import Noise

Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]  # a serialized example: image, label
# Of the functions that `map` takes: AutoGraph finds nothing to rewrite in them, and takes seconds.
plain = tf.autograph.experimental.do_not_convert


def read(directory: PreparedDataset, split: str) -> tuple[Array, Array]:
    """Read a whole split of images of one size into memory, in the order of its shards.

    Returns:
        Images, uint8 or float32 (examples, h, w, channels), and labels, int32 (examples,).

    Raises:
        InputError: a shard is damaged or has the wrong number of examples, or the split is larger
            than the memory.
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
        stop = start + shard.used
        read = _read_shard(shard, parse, images.dtype)
        images[start:stop], labels[start:stop] = (array[shard.taken] for array in read)
        start = stop
    _check_labels(directory, split, labels)
    return images, labels


def _read_shard(shard: Shard, parse: Parse, dtype: tf.DType | np.dtype) -> tuple[Array, Array]:
    """Return what `parse` gives of all examples of a shard; InputError if it is damaged.

    Args:
        dtype: of the first of the two things that it gives; the other is a label.
    """
    records = tf.data.TFRecordDataset(str(shard.path)).batch(1024)
    types = tf.as_dtype(dtype), tf.int32

    def parse_batch(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # A loop inside `map` takes half the time of a `map` over single examples.
        return tf.map_fn(parse, records, fn_output_signature=types)

    try:
        batches = list(records.map(plain(parse_batch), tf.data.AUTOTUNE).as_numpy_iterator())
    except tf.errors.OpError as error:
        raise _damaged(shard.path, error) from None
    _check_count(shard, sum(len(labels) for _, labels in batches))
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


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
    """Stream the batches of one epoch of training from the shards, in `visit_order`.

    Holds three windows of undecoded records at most, and a few batches.

    Args:
        split: the part of the dataset to visit.
        noise, epoch, window: as in visit_order.
        batch_size: examples of a global batch.
        augment: whether images of varying size are cut at random, or in the centre; those of one
            size are augmented later, on the device.
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
    records = visited(split, noise, epoch, places, steps[0] * batch_size // window, window)
    decode = _decoder(directory, augment)

    def decode_row(record: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *decode(record, draws), draws

    decoded = records.map(plain(decode_row), tf.data.AUTOTUNE)
    return decoded.batch(rows, drop_remainder=True).prefetch(2)


def visited(
    split: Split, noise: Noise, epoch: int, places: Array, first_window: int, window: int
) -> tf.data.Dataset:
    """Stream (serialized example, its draws) at each of `places` in an epoch, from a window on."""
    order, positions, examples = visit_order(split.lengths, noise, epoch, window=window)
    inside = tf.constant((positions[places] % window).astype(np.int32))
    draws = tf.constant(augmentation.draw(noise, epoch, split.examples)[examples][places])
    # Each element is a window of records, and which places are visited in it.
    windows = np.arange(first_window, -(-len(positions) // window))
    bounds = np.searchsorted(places, np.append(windows, windows[-1] + 1) * window)
    visits = tf.data.Dataset.from_tensor_slices((bounds[:-1], bounds[1:]))
    # The next window is read while one is decoded.
    records = _records(split, order.tolist()).batch(window).skip(first_window).prefetch(1)

    def visit(window: tf.Tensor, bounds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        some = slice(bounds[0], bounds[1])
        return tf.gather(window, inside[some]), draws[some]

    return tf.data.Dataset.zip(records, visits).map(plain(visit)).unbatch()


def stream_in_order(
    directory: PreparedDataset, split: str, *, batch_size: int, part: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """Stream a split in the order of its shards, in batches; the last one may be smaller.

    `part` is (index, count): every count-th example from the index-th on.

    Returns:
        A tf.data.Dataset of (images, labels int32); images of varying size are cut in the centre.
    """
    decode, (index, count) = _decoder(directory, augment=False), part
    records = _records(directory.splits[split]).shard(count, index)
    return records.map(plain(decode), tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def stream_raw(
    directory: PreparedDataset, split: str, *, size: int = 0, batch_size: int = 500
) -> Iterator[tuple[Array, Array]]:
    """Yield (images with the pixels as stored, labels int32) in the order of the shards.

    With a `size`, each image is cut to that height and width in the centre.

    Raises:
        InputError: a shard is damaged.
    """
    deserialize, channels = _deserializer(directory, False), directory.input_shape[-1]
    records = _records(directory.splits[split])

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = deserialize(record)
        return augmentation.centre_crop(image, size, channels) if size else image, label

    batches = records.map(plain(decode), tf.data.AUTOTUNE).batch(batch_size)
    with naming_the_damaged(directory):
        yield from batches.as_numpy_iterator()


def _records(split: Split, order: Iterable[int] | None = None) -> tf.data.Dataset:
    """Stream the used serialized examples of a split's shards, in an order or their own."""
    shards = [split.shards[i] for i in order] if order is not None else split.shards
    paths = tf.constant([str(shard.path) for shard in shards])
    if all(shard.chosen is None for shard in shards):
        used = tf.constant([shard.used for shard in shards], tf.int64)
        files = tf.data.Dataset.from_tensor_slices((paths, used))
        return files.flat_map(plain(lambda path, used: tf.data.TFRecordDataset(path).take(used)))
    # One bool per record, of the shards one after the other.
    starts = np.cumsum([0, *(shard.examples for shard in shards)])
    is_used = np.zeros(starts[-1], bool)
    for start, shard in zip(starts, shards, strict=False):
        is_used[start : start + shard.examples][shard.taken] = True
    chosen = tf.constant(is_used)

    def used_of(path: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        places = tf.data.TFRecordDataset(path).enumerate(start)
        used = places.filter(plain(lambda place, _: chosen[place]))
        return used.map(plain(lambda _, record: record))

    return tf.data.Dataset.from_tensor_slices((paths, starts[:-1])).flat_map(plain(used_of))


def _deserializer(directory: PreparedDataset, as_bytes: bool) -> Parse:
    """Return a function from a serialized example to (image as stored or its bytes, label)."""
    fields = directory.fields
    own = {"shape": fields.shape, "dtype": np.dtype(fields.dtype)}
    image = (
        tfds.features.Image(**own, encoding_format=fields.encoding or None)
        if fields.kind == "Image"
        else tfds.features.Tensor(**own, encoding=fields.encoding or "none")
    )
    label = tfds.features.ClassLabel(num_classes=fields.classes)
    features = tfds.features.FeaturesDict({fields.image_key: image, fields.label_key: label})
    decoders = {fields.image_key: tfds.decode.SkipDecoding()} if as_bytes else None

    def deserialize(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record, decoders=decoders)
        return example[fields.image_key], tf.cast(example[fields.label_key], tf.int32)

    return deserialize


def parser(directory: PreparedDataset) -> Parse:
    """Return a function from a serialized example to (image, label int32).

    The image is decoded, uint8 or float32 (h, w, c); but if it has 8 bits and the images vary in
    size, it is the file's bytes. Of 16 bits, 1 is white; float32 are as they are, but finite.
    """
    as_bytes = not directory.one_size and directory.pixels == "uint8"
    deserialize, fields = _deserializer(directory, as_bytes), directory.fields

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = deserialize(record)
        if fields.dtype == "uint16":
            image = tf.cast(image, tf.float32) / 65535
        elif fields.dtype == "float32":
            image = tf.debugging.check_numerics(image, "Expected finite pixels")
        if directory.one_size:
            image = tf.ensure_shape(image, directory.image_shape)
        return image, label

    return parse


def _decoder(
    directory: PreparedDataset, augment: bool
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Return a function of (serialized example, its draws) to (image of input_shape, label)."""
    parse, jpeg = parser(directory), directory.fields.encoding == "jpeg"
    size, _, channels = directory.input_shape

    def decode(record: tf.Tensor, draws: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = parse(record)
        if not directory.one_size:
            image = augmentation.to_one_size(
                image, draws if augment else None, size, channels, jpeg=jpeg
            )
        return tf.ensure_shape(image, directory.input_shape), label

    return decode


def check(directory: PreparedDataset, split: str, *, decode: bool = False) -> None:
    """Read every record of a split, and perhaps decode it; raise InputError as `read` does."""
    parse = parser(directory) if decode else _deserializer(directory, True)
    fields, labels = directory.fields, []

    def size_and_label(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = parse(record)
        if decode and image.dtype == tf.string:
            if fields.encoding == "jpeg":
                tf.debugging.Assert(tf.io.is_jpeg(image), ["Expected a JPEG"])
            image = tf.image.decode_image(image, fields.shape[-1], expand_animations=False)
        return tf.size(image), label  # the size, as images that vary make no batch

    for shard in directory.splits[split].shards:
        labels.append(_read_shard(shard, size_and_label, tf.int32)[1][shard.taken])
    _check_labels(directory, split, np.concatenate(labels))


def check_first(directory: PreparedDataset) -> None:
    """Decode the first example of each split, before a network is built for what they should be.

    Raises:
        InputError: it is damaged, or not what features.json says.
    """
    parse = parser(directory)
    for split in directory.splits.values():
        path = split.shards[0].path
        try:
            list(tf.data.TFRecordDataset(str(path)).take(1).map(plain(parse)))
        except tf.errors.OpError as error:
            raise _damaged(path, error) from None


def check_lengths(directory: PreparedDataset, split: str) -> None:
    """Count the records of a split by their lengths alone, for data too large to be read twice.

    Raises:
        InputError: a shard is cut short, or has the wrong number of examples.
    """
    for shard in directory.splits[split].shards:
        size, position, records = shard.path.stat().st_size, 0, 0
        with open(shard.path, "rb", buffering=0) as file:
            while position < size:
                file.seek(position)
                # A record: its length in 8 bytes, 4 of checksum, the data, 4 of checksum.
                position += int.from_bytes(file.read(8), "little") + 16
                records += 1
        if position != size:
            raise _damaged(shard.path, f"record {records - 1} goes beyond the end of the file")
        _check_count(shard, records)


@contextlib.contextmanager
def naming_the_damaged(directory: PreparedDataset) -> Iterator[None]:
    """Turn what TensorFlow raises for an image that it cannot decode into an InputError."""
    try:
        yield
    except tf.errors.OpError:
        for split in ("train", "test"):
            check(directory, split, decode=True)
        raise


def _check_labels(directory: PreparedDataset, split: str, labels: Array) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= directory.classes))
    if wrong.size:
        raise InputError(
            f"{directory.path}: expected labels 0 to {directory.classes - 1}. Example {wrong[0]} "
            f"of the {split} split has {labels[wrong[0]]}."
        )


def _check_count(shard: Shard, count: int) -> None:
    if count != shard.examples:
        raise InputError(
            f"{shard.path} has {count} examples; dataset_info.json says {shard.examples}. Prepare "
            "the dataset again."
        )


def _damaged(path: pathlib.Path, error: object) -> InputError:
    """Return the InputError of a shard that cannot be read; raise one that says if it is packed."""
    refuse_packed(path)
    first_line = re.sub(r"\{\{.*?\}\} ?", "", str(error)).splitlines()[0]
    return InputError(
        f"{path} is damaged, or does not hold what features.json says; prepare the dataset again. "
        f"TensorFlow says: {first_line}"
    )
