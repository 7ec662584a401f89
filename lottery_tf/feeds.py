"""The two ways to feed the step: splits in device memory, or streams from the shards."""

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.order import visit_order

EVALUATION_BATCH = 1000
RESIDENT_BYTES = 2e9


def make(config, directory):
    """The feed that config.resident asks for; "auto" decides by the size of the training split.

    Raises:
        InputError: a shard is damaged.
    """
    pixels = directory.splits["train"].examples * int(np.prod(directory.image_shape))
    fits = config.resident == "auto" and pixels < RESIDENT_BYTES
    return (Resident if fits or config.resident == "on" else Streamed)(config, directory)


class Resident:
    """Both splits in device memory as uint8; a step gathers its rows."""

    def __init__(self, config, directory):
        self.config, self.directory = config, directory
        self.train, self.test = (
            tuple(map(tf.constant, tfrecords.read(directory, split))) for split in ("train", "test")
        )  # each: uint8 (examples, h, w, c), int32 (examples,)

    def epoch(self, noise, epoch, first_step):
        """What `batch` reads in an epoch: the split, and the examples of every step."""
        lengths = [length for _, length in self.directory.splits["train"].shards]
        window, batch_size = self.config.shuffle_window, self.config.batch_size
        _, _, examples = visit_order(lengths, noise, epoch, window=window)
        steps = len(examples) // batch_size
        order = examples[: steps * batch_size].reshape(steps, batch_size)
        return *self.train, tf.constant(order.astype(np.int32))

    @staticmethod
    def batch(epoch, step):
        """Images uint8 (batch, h, w, c) and labels (batch,) of a step."""
        images, labels, order = epoch
        return tf.gather(images, order[step]), tf.gather(labels, order[step])

    def test_batches(self):
        """The test split in batches; the last one may be smaller."""
        images, labels = self.test
        for start in range(0, len(labels), EVALUATION_BATCH):
            stop = start + EVALUATION_BATCH
            yield images[start:stop], labels[start:stop]

    def check(self):
        """What is in memory was checked when it was read."""


class Streamed:
    """Both splits read from their shards as they are needed."""

    def __init__(self, config, directory):
        self.config, self.directory = config, directory
        self.check()

    def epoch(self, noise, epoch, first_step):
        """What `batch` reads in an epoch: an iterator that begins at `first_step`."""
        return iter(
            tfrecords.stream(
                self.directory,
                "train",
                noise,
                epoch=epoch,
                window=self.config.shuffle_window,
                batch_size=self.config.batch_size,
                first_step=first_step,
            )
        )

    @staticmethod
    def batch(epoch, step):
        """Images uint8 (batch, h, w, c) and labels (batch,) of the next step."""
        return next(epoch)

    def test_batches(self):
        """The test split in batches; the last one may be smaller."""
        return tfrecords.stream_in_order(self.directory, "test", batch_size=EVALUATION_BATCH)

    def check(self):
        """Reads every record; raises InputError if a shard is damaged, and names it."""
        for split in ("train", "test"):
            tfrecords.check(self.directory, split)
