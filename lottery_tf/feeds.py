"""The two ways to feed the step: splits in device memory, or streams from the shards."""

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import DATASETS, USERS_OWN, augmentation, tfrecords
from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError

EVALUATION_BATCH = 1000  # images of one size
LARGE_EVALUATION_BATCH = 100
RESIDENT_BYTES = 2e9
MEASURED_EXAMPLES = 1000


def make(config, directory):
    """The feed that config.resident asks for; "auto" decides by the size of the training split.

    Raises:
        InputError: a shard is damaged, or the images of a resident split vary in size.
    """
    if config.resident == "on" and not directory.one_size:
        raise InputError(
            f"--resident=on expects images of one size; those of {config.dataset} vary. Use "
            "--resident=auto, or prepare them in one size."
        )
    pixels = directory.splits["train"].examples * int(np.prod(directory.input_shape))
    fits = config.resident == "auto" and directory.one_size and pixels < RESIDENT_BYTES
    return (Resident if fits or config.resident == "on" else Streamed)(config, directory)


def constants(config, directory):
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
        return np.float32(known.mean), np.float32(known.std)
    batches = tfrecords.stream_in_order(directory, "train", batch_size=MEASURED_EXAMPLES)
    images = next(iter(batches))[0].numpy() / np.float32(255)
    return images.mean((0, 1, 2)), np.maximum(images.std((0, 1, 2)), 1e-3)


def augment(config, directory):
    """The function of (images, words) that augments whole batches on the device."""
    name = config.augment
    if name == "auto":
        known = DATASETS.get(config.dataset, USERS_OWN)
        name = known.augment if directory.one_size else "flip"
    return augmentation.AUGMENTATIONS[name]


class Resident:
    """Both splits in device memory as uint8; a step gathers its rows."""

    def __init__(self, config, directory):
        self.config, self.split = config, directory.splits["train"]
        self.train, self.test = (
            tuple(map(tf.constant, tfrecords.read(directory, split))) for split in ("train", "test")
        )  # each: uint8 (examples, h, w, c), int32 (examples,)

    def epoch(self, noise, epoch, first_step):
        """What `batch` reads in an epoch: the split, and the examples and words of every step."""
        window, batch_size = self.config.shuffle_window, self.config.batch_size
        _, _, examples = visit_order(self.split.lengths, noise, epoch, window=window)
        steps = len(examples) // batch_size
        order = examples[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
        words = augmentation.draw(noise, epoch, self.split.examples)
        return *self.train, tf.constant(order), tf.constant(words)

    @staticmethod
    def batch(epoch, step):
        """Images uint8 (batch, h, w, c), labels (batch,) and words (batch, WORDS) of a step."""
        images, labels, order, words = epoch
        return tuple(tf.gather(array, order[step]) for array in (images, labels, words))

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
        shards = [shard for split in directory.splits.values() for shard in split.shards]
        if sum(shard.path.stat().st_size for shard in shards) < RESIDENT_BYTES:
            self.check()
        else:
            for split in ("train", "test"):
                tfrecords.check_lengths(directory, split)

    def epoch(self, noise, epoch, first_step):
        """What `batch` reads in an epoch: an iterator that begins at `first_step`."""
        return iter(
            tfrecords.stream(
                self.directory,
                noise,
                epoch=epoch,
                window=self.config.shuffle_window,
                batch_size=self.config.batch_size,
                augment=self.config.augment != "none",
                first_step=first_step,
            )
        )

    @staticmethod
    def batch(epoch, step):
        """Images uint8 (batch, h, w, c), labels (batch,) and words (batch, WORDS) of a step."""
        return next(epoch)

    def test_batches(self):
        """The test split in batches; the last one may be smaller."""
        batch = EVALUATION_BATCH if self.directory.one_size else LARGE_EVALUATION_BATCH
        return tfrecords.stream_in_order(self.directory, "test", batch_size=batch)

    def check(self):
        """Reads every record; raises InputError if a shard is damaged, and names it."""
        for split in ("train", "test"):
            tfrecords.check(self.directory, split)
