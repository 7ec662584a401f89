"""Compare streaming from shards with the bare decoding of the same images."""

import itertools
import resource
import time

import numpy as np
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
    # Both ways visit the same parts of the same images in a repeat.
    noises, same = itertools.tee(Noise(config.data_seed, repeat) for repeat in itertools.count())
    ways = {
        "stream": lambda: _stream(config, directory, next(noises), batches),
        "bare decode": lambda: _bare(config, directory, next(same), batches),
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
        steps=(0, batches),
    )
    return _rate(stream, batches, config.batch_size)


def _bare(config: Config, directory: PreparedDataset, noise: Noise, batches: int) -> float:
    split, parse = directory.splits["train"], tfrecords.parser(directory)
    places = np.arange(batches * config.batch_size)
    visited = tfrecords.visited(split, noise, 0, places, 0, config.shuffle_window)
    jpegs, windows = [], []
    for record, draws in visited:
        jpeg, _ = parse(record)
        if not tf.io.is_jpeg(jpeg):
            raise InputError(f"Expected JPEG images alone. {directory.path} has others.")
        jpegs.append(jpeg.numpy())
        windows.append(augmentation.random_window(jpeg, draws).numpy())

    def decode(jpeg: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        part = tf.image.decode_and_crop_jpeg(jpeg, window)
        return part[0, 0, 0]  # the parts differ in size, so they make no batch

    decoded = tf.data.Dataset.from_tensor_slices((jpegs, np.stack(windows))).cache()
    for _ in decoded:
        pass
    parts = decoded.map(decode, tf.data.AUTOTUNE).batch(config.batch_size)
    return _rate(parts, batches, config.batch_size)


def _rate(dataset: tf.data.Dataset, batches: int, batch_size: int) -> float:
    began = time.perf_counter()
    for _ in itertools.islice(dataset, batches):
        pass
    return batches * batch_size / (time.perf_counter() - began)
