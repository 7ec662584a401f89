"""What streaming costs beside the bare decoding of the same images."""

import itertools
import resource
import time

import tensorflow as tf

from lottery_tf import datasets
from lottery_tf.datasets import augmentation, tfrecords
from lottery_tf.datasets.order import Noise


def input_rates(config, *, images, repeats):
    """Images per second of the training stream and of decoding alone, taking turns.

    Args:
        config: Config, of a dataset whose images vary in size.
        images: how many to read per repeat, rounded down to whole batches.
        repeats: how often each way is measured, after one warm-up.

    Returns:
        {way: [images per second of each repeat]}: "stream", from the shards to augmented batches;
        "bare decode", decode_and_crop_jpeg alone of the same parts of the same images, from
        memory, on as many threads.
    """
    directory = datasets.find(config)
    batches = max(1, min(images, directory.splits["train"].examples) // config.batch_size)
    rates = {"stream": [], "bare decode": []}
    for repeat in range(repeats + 1):
        noise = Noise(config.data_seed, repeat)
        measured = _stream(config, directory, noise, batches), _bare(config, directory, batches)
        for way, rate in zip(rates, measured, strict=True):
            if repeat:
                rates[way].append(rate)
    return rates


def peak_memory():
    """The most memory that this process has held so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _stream(config, directory, noise, batches):
    stream = tfrecords.stream(
        directory, noise, epoch=0, window=config.shuffle_window, batch_size=config.batch_size
    )
    return _rate(stream, batches, config.batch_size)


def _bare(config, directory, batches):
    shards, parse = directory.splits["train"].shards, tfrecords.parser(directory)
    records = tf.data.TFRecordDataset([str(shard.path) for shard in shards])
    count = batches * config.batch_size
    jpegs = [parse(record)[0].numpy() for record in itertools.islice(records, count)]
    words = augmentation.draw(Noise(config.data_seed, 0), 0, count)

    def decode(jpeg, words):
        part = tf.image.decode_and_crop_jpeg(jpeg, augmentation.random_window(jpeg, words))
        return tf.reduce_max(part)  # the parts differ in size, so they make no batch

    decoded = tf.data.Dataset.from_tensor_slices((jpegs, words)).cache()
    for _ in decoded:
        pass
    return _rate(decoded.map(decode, tf.data.AUTOTUNE).batch(config.batch_size), batches,
                 config.batch_size)  # fmt: skip


def _rate(dataset, batches, batch_size):
    began = time.perf_counter()
    for _ in itertools.islice(dataset, batches):
        pass
    return batches * batch_size / (time.perf_counter() - began)
