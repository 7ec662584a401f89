"""Compare streaming from shards with the bare decoding of the same images."""

import itertools
import resource
import time

import tensorflow as tf

from lottery_tf import datasets
from lottery_tf.benchmarks.turns import take_turns
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset, augmentation, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise


def input_rates(config: Config, *, images: int, repeats: int) -> tuple[dict[str, list[float]], int]:
    """Return the images per second of the training stream and of decoding alone, by turns.

    The first epoch of the stream warms up; the memory that it took is measured before the images
    of the bare decoding are loaded.

    Args:
        config: of a dataset whose images vary in size.
        images: how many to read per repeat, rounded down to whole batches.

    Returns:
        (rates, peak), rates as {way: [images per second of each repeat]}: "stream", from the
        shards to batches of crops; "bare decode", decode_and_crop_jpeg alone of the same parts of
        the same images, from memory, on as many threads. The peak is in bytes, of the process and
        its libraries.
    """
    directory = datasets.find(config)
    batches = max(1, min(images, directory.splits["train"].examples) // config.batch_size)
    _stream(config, directory, Noise(config.data_seed, 0), batches)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    noises = (Noise(config.data_seed, repeat) for repeat in itertools.count())
    ways = {
        "stream": lambda: _stream(config, directory, next(noises), batches),
        "bare decode": lambda: _bare(config, directory, batches),
    }
    what = f"{batches * config.batch_size} images at a time, {repeats} times"
    return take_turns(ways, repeats=repeats, what=what), peak


def _stream(config: Config, directory: PreparedDataset, noise: Noise, batches: int) -> float:
    stream = tfrecords.stream(
        directory,
        directory.splits["train"],
        noise,
        epoch=0,
        window=config.shuffle_window,
        batch_size=config.batch_size,
    )
    return _rate(stream, batches, config.batch_size)


def _bare(config: Config, directory: PreparedDataset, batches: int) -> float:
    shards, parse = directory.splits["train"].shards, tfrecords.parser(directory)
    records = tf.data.TFRecordDataset([str(shard.path) for shard in shards])
    count = batches * config.batch_size
    jpegs = [parse(record)[0].numpy() for record in itertools.islice(records, count)]
    if not all(tf.io.is_jpeg(jpeg) for jpeg in jpegs):
        raise InputError(f"Expected JPEG images alone. {directory.path} has others.")
    draws = augmentation.draw(Noise(config.data_seed, 0), 0, count)

    def decode(jpeg: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        part = tf.image.decode_and_crop_jpeg(jpeg, augmentation.random_window(jpeg, draws))
        return tf.reduce_max(part)  # the parts differ in size, so they make no batch

    decoded = tf.data.Dataset.from_tensor_slices((jpegs, draws)).cache()
    for _ in decoded:
        pass
    parts = decoded.map(decode, tf.data.AUTOTUNE).batch(config.batch_size)
    return _rate(parts, batches, config.batch_size)


def _rate(dataset: tf.data.Dataset, batches: int, batch_size: int) -> float:
    began = time.perf_counter()
    for _ in itertools.islice(dataset, batches):
        pass
    return batches * batch_size / (time.perf_counter() - began)
