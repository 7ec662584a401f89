"""Whether TFRecord shards hold what the JSON files of their dataset say; errors name the file."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import PreparedDataset
from lottery_tf.datasets.decoding import deserializer, parser
from lottery_tf.datasets.splits import Shard, compressed, is_packed
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array


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
        found = np.concatenate([some for _, some in of_shard(shard, label)])
        labels.append(found[shard.taken])
    check_labels(directory, split, np.concatenate(labels))


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
            raise damaged(path, error) from None


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
            raise damaged(shard.path, f"record {found - 1} goes beyond the end of the file")
        check_count(shard, found)


@contextlib.contextmanager
def naming_the_damaged(directory: PreparedDataset) -> Iterator[None]:
    """Turns what TensorFlow raises for an image that it cannot decode into an InputError."""
    try:
        yield
    except tf.errors.OpError:
        for split in ("train", "test"):
            check(directory, split, decode=True)
        raise


def of_shard(shard: Shard, parse: Callable) -> list[tuple[Any, Any]]:
    """[(images, labels)] of all examples of a shard, in batches; InputError if it is damaged."""
    records = tf.data.TFRecordDataset(str(shard.path)).map(parse, tf.data.AUTOTUNE).batch(1024)
    try:
        batches = list(records.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise damaged(shard.path, error) from None
    check_count(shard, sum(len(labels) for _, labels in batches))
    return batches


def check_labels(directory: PreparedDataset, split: str, labels: Array) -> None:
    """Raises InputError if a label is of no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= directory.classes))
    if wrong.size:
        raise InputError(
            f"{directory.path}: expected labels 0 to {directory.classes - 1}. Example {wrong[0]} "
            f"of the {split} split has {labels[wrong[0]]}."
        )


def damaged(path: pathlib.Path, error: object) -> InputError:
    """The InputError of a shard that cannot be read."""
    if is_packed(path):
        return compressed(path)
    first_line = re.sub(r"\{\{.*?\}\} ?", "", str(error)).splitlines()[0]
    return InputError(
        f"{path} is damaged, or does not hold what features.json says; prepare the dataset again. "
        f"TensorFlow says: {first_line}"
    )


def check_count(shard: Shard, found: int) -> None:
    """Raises InputError if a shard has not the number of examples that it should."""
    if found != shard.examples:
        raise InputError(
            f"{shard.path} has {found} examples; dataset_info.json says {shard.examples}. Prepare "
            "the dataset again."
        )
