"""The two ways to feed the step: splits in device memory, or streams from the shards."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from lottery_tf import datasets
from lottery_tf.config import Config
from lottery_tf.datasets import augmentation, tfrecords
from lottery_tf.datasets.order import visit_order
from lottery_tf.datasets.statistics import channel_statistics
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.devices import Cluster

EVALUATION_BATCH = 1000  # images of one size
LARGE_EVALUATION_BATCH = 100
RESIDENT_BYTES = 2e9
Batches = Iterable[tuple[tf.Tensor, tf.Tensor]]  # images, uint8 or float32, and labels int32


def make(config: Config, directory: datasets.PreparedDataset, cluster: Cluster) -> "Feed":
    """The feed that config.resident asks for; "auto" decides by the size of the training split.

    Raises:
        InputError: a shard is damaged, or the images of a resident split vary in size.
    """
    if config.resident == "on" and not directory.one_size:
        raise InputError(
            f"--resident=on expects images of one size; those of {config.dataset} vary. Use "
            "--resident=auto, or prepare them in one size."
        )
    size = math.prod(directory.input_shape) * np.dtype(directory.pixels).itemsize
    size *= directory.splits["train"].examples
    fits = config.resident == "auto" and directory.one_size and size < RESIDENT_BYTES
    kind: type[Feed] = Resident if fits or config.resident == "on" else Streamed
    if config.shard_files and cluster.workers > 1 and kind is Resident:
        raise InputError(
            "--shard_files expects data that are streamed, but these are resident. Add "
            "--resident=off, or leave it out."
        )
    return kind(config, directory, cluster)


def normaliser(config: Config, directory: datasets.PreparedDataset) -> Callable:
    """The function of images that gives (pixel / 255 - mean) / std, float32.

    Pixels that are float32 are not divided by 255.
    """
    mean, std = channel_statistics(config, directory)
    if directory.pixels == "uint8":
        return lambda images: (tf.cast(images, tf.float32) / 255 - mean) / std
    return lambda images: (images - mean) / std


def _rows(array, index, count):
    """The index-th of `count` equal parts of an array; all of it if there is one."""
    size = array.shape[0] // count
    return array if count == 1 else array[index * size : (index + 1) * size]


def _cut(images, labels):
    for start in range(0, len(labels), EVALUATION_BATCH):
        stop = start + EVALUATION_BATCH
        yield images[start:stop], labels[start:stop]


class Resident:
    """Both splits in memory, the training split on every device."""

    compiled_as_loop = True

    def __init__(self, config: Config, directory: datasets.PreparedDataset, cluster: Cluster):
        self.config, self.directory, self.cluster = config, directory, cluster
        self.split = directory.splits["train"]
        self.steps_per_epoch = self.split.examples // config.batch_size
        self.test_examples = directory.splits["test"].examples
        self.train = tuple(map(cluster.copies, tfrecords.read(directory, "train")))
        # Of the test split each worker holds its own part.
        part = slice(cluster.worker, None, cluster.workers)
        self.test = tuple(tf.constant(a[part]) for a in tfrecords.read(directory, "test"))
        # each: uint8 or float32 (examples, h, w, c), int32 (examples,)

    def epoch(self, noise: Noise, epoch: int, first_step: int) -> tuple:
        """What `of_step` reads in an epoch: the split, and the examples and draws of every step."""
        window, batch_size = self.config.shuffle_window, self.config.batch_size
        _, _, examples = visit_order(self.split.lengths, noise, epoch, window=window)
        steps = self.steps_per_epoch
        order = examples[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
        draws = augmentation.draw(noise, epoch, self.split.examples)
        return *self.train, tf.constant(order), tf.constant(draws)

    @staticmethod
    def of_step(epoch: tuple, step: int | tf.Tensor) -> tuple:
        """What `of_replica` reads for a step, the same for every replica."""
        images, labels, order, draws = epoch
        return images, labels, draws, order[step]

    def of_replica(
        self, images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor, order: tf.Tensor
    ) -> tuple:
        """Images (rows, h, w, c), labels (rows,) and draws (rows, DRAWS) of this replica."""
        order = _rows(order, self.cluster.replica, self.cluster.replicas)
        return tuple(tf.gather(array, order) for array in (images, labels, draws))

    def train_batches(self) -> Batches:
        """The training split in order, in batches; the last one may be smaller."""
        yield from _cut(*map(self.cluster.local, self.train))

    def validation_batches(self) -> Batches:
        """What --validation_fraction holds out, in batches; the last one may be smaller."""
        yield from _cut(*self._validation)

    @functools.cached_property
    def _validation(self):
        return tuple(map(tf.constant, tfrecords.read(self.directory, "validation")))

    def test_pieces(self) -> Batches:
        """This worker's part of the test split, in one piece."""
        yield self.test

    def test_batches(self) -> Batches:
        """This worker's part of the test split in batches; the last one may be smaller."""
        yield from _cut(*self.test)

    def check(self) -> None:
        """What is in memory was checked when it was read."""


class Streamed:
    """Both splits read from their shards as they are needed, by each worker its rows."""

    compiled_as_loop = False  # XLA cannot read files: single steps are compiled

    def __init__(self, config: Config, directory: datasets.PreparedDataset, cluster: Cluster):
        self.config, self.directory, self.cluster = config, directory, cluster
        self.test_examples = directory.splits["test"].examples
        self.own_files = config.shard_files and cluster.workers > 1
        batch_size = config.batch_size
        self.batch_here = batch_size // cluster.workers
        if self.own_files:
            parts = [self._files_of(worker) for worker in range(cluster.workers)]
            self.split = parts[cluster.worker]
            self.steps_per_epoch = min(part.examples for part in parts) // self.batch_here
        else:
            self.split = directory.splits["train"]
            self.steps_per_epoch = self.split.examples // batch_size
        shards = [shard for split in directory.splits.values() for shard in split.shards]
        small = sum(shard.path.stat().st_size for shard in shards) < RESIDENT_BYTES
        for split in ("train", "test"):
            if small:
                tfrecords.check(directory, split)
            else:
                tfrecords.check_lengths(directory, split)

    def _files_of(self, worker):
        """The part of the training split that --shard_files gives to a worker."""
        shards = self.directory.splits["train"].shards
        if len(shards) < self.cluster.workers:
            raise InputError(
                f"--shard_files expects a shard or more for each of {self.cluster.workers} "
                f"workers. Found: {len(shards)}. Leave it out: each worker reads all of them then."
            )
        return datasets.Split(shards[worker :: self.cluster.workers])

    def epoch(self, noise: Noise, epoch: int, first_step: int) -> Iterator:
        """What `of_step` reads in an epoch: an iterator that begins at `first_step`."""
        # Of its own files a worker takes every row, in an order of its own.
        key, worker, workers = noise, self.cluster.worker, self.cluster.workers
        if self.own_files:
            key, worker, workers = noise.of_worker(worker), 0, 1
        return iter(
            tfrecords.stream(
                self.directory,
                self.split,
                key,
                epoch=epoch,
                window=self.config.shuffle_window,
                batch_size=self.batch_here * workers,
                augment=self.config.augment != "none",
                steps=(first_step, self.steps_per_epoch),
                part=(worker, workers),
            )
        )

    @staticmethod
    def of_step(epoch: Iterator, step: int | tf.Tensor) -> tuple:
        """What `of_replica` reads for a step: the batch of this worker."""
        return next(epoch)

    def of_replica(self, *batch: tf.Tensor) -> tuple:
        """Images (rows, h, w, c), labels (rows,) and draws (rows, DRAWS) of this replica."""
        here = self.cluster.replicas_here
        return tuple(_rows(array, self.cluster.replica_here, here) for array in batch)

    def train_batches(self) -> Batches:
        """The training split in order, in batches; the last one may be smaller."""
        return self._in_order("train", part=(0, 1))

    def validation_batches(self) -> Batches:
        """What --validation_fraction holds out, in batches; the last one may be smaller."""
        return self._in_order("validation", part=(0, 1))

    def test_batches(self) -> Batches:
        """This worker's part of the test split in batches; the last one may be smaller."""
        return self._in_order("test", part=(self.cluster.worker, self.cluster.workers))

    def _in_order(self, split, part):
        batch = EVALUATION_BATCH if self.directory.one_size else LARGE_EVALUATION_BATCH
        with tfrecords.naming_the_damaged(self.directory):
            yield from tfrecords.stream_in_order(self.directory, split, batch_size=batch, part=part)

    test_pieces = test_batches

    def check(self) -> None:
        """Decodes every image; raises InputError if a shard is damaged, and names it."""
        for split in ("train", "test"):
            tfrecords.check(self.directory, split, decode=True)


Feed = Resident | Streamed
