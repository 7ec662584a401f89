"""The two ways to feed the step: splits in device memory, or streams from the shards."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

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
Inputs = tuple[tf.Tensor, ...]  # what the compiled step is given


class Feed(Protocol):
    """Where the engine's examples come from: Resident or Streamed.

    `start_epoch` decides the order of the examples, `step_inputs` picks what one step is given, and
    `replica_batch` makes the batch of it, inside the compiled step on each replica.

    Attributes:
        split: the training split; of several workers with --shard_files, this worker's part.
        steps_per_epoch: whole batches in the training split.
        test_examples: examples in the whole test split.
        compiled_as_loop: whether XLA compiles the loop over the steps, or single steps.
    """

    split: datasets.Split
    steps_per_epoch: int
    test_examples: int
    compiled_as_loop: bool

    def start_epoch(self, noise: Noise, epoch: int, first_step: int) -> Any:
        """Return what `step_inputs` reads in an epoch that begins at `first_step`."""

    def step_inputs(self, epoch: Any, step: int | tf.Tensor) -> Inputs:
        """Return what `replica_batch` needs of a step."""

    def replica_batch(self, *inputs: tf.Tensor) -> Inputs:
        """Return images (rows, h, w, c), labels (rows,) and draws (rows, DRAWS) of a replica."""

    def worker_batch(self, *inputs: tf.Tensor) -> Inputs:
        """Return what `replica_batch` does of all replicas of this worker, or of all workers."""

    def train_batches(self) -> Batches:
        """Yield the training split in order, in batches; the last one may be smaller."""

    def validation_batches(self) -> Batches:
        """Yield what --validation_fraction holds out, in batches; the last one may be smaller."""

    def test_batches(self) -> Batches:
        """Yield this worker's part of the test split in batches; the last one may be smaller."""

    def test_pieces(self) -> Batches:
        """Yield this worker's part of the test split, in pieces as large as memory allows."""

    def check(self) -> None:
        """Raise InputError if a file is damaged, and name it."""


def make(config: Config, directory: datasets.PreparedDataset, cluster: Cluster) -> Feed:
    """Return the feed of --resident; "auto" decides by the size of the training split.

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
    if not (fits or config.resident == "on"):
        return Streamed(config, directory, cluster)
    if config.shard_files and cluster.workers > 1:
        raise InputError(
            "--shard_files expects streamed data, but the training split is kept in memory. Add "
            "--resident=off, or leave --shard_files out."
        )
    return Resident(config, directory, cluster)


def normaliser(config: Config, directory: datasets.PreparedDataset) -> Callable:
    """Return the function of images that gives (pixel / 255 - mean) / std, float32.

    Pixels that are float32 are not divided by 255.
    """
    mean, std = channel_statistics(config, directory)
    if directory.pixels == "uint8":
        return lambda images: (tf.cast(images, tf.float32) / 255 - mean) / std
    return lambda images: (images - mean) / std


def _part(array: tf.Tensor, index: int | tf.Tensor, count: int) -> tf.Tensor:
    """Return the index-th of `count` equal parts of an array; all of it if there is one."""
    size = array.shape[0] // count
    return array if count == 1 else array[index * size : (index + 1) * size]


def _cut(images: tf.Tensor, labels: tf.Tensor) -> Batches:
    for start in range(0, len(labels), EVALUATION_BATCH):
        stop = start + EVALUATION_BATCH
        yield images[start:stop], labels[start:stop]


class Resident:
    """Both splits in memory."""

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
        # uint8 or float32 (examples, h, w, c), int32 (examples,)

    def start_epoch(self, noise: Noise, epoch: int, first_step: int) -> Inputs:
        """Return the training split, the places of every step's examples, and their draws."""
        window, batch_size = self.config.shuffle_window, self.config.batch_size
        _, _, examples = visit_order(self.split.lengths, noise, epoch, window=window)
        steps = self.steps_per_epoch
        places = examples[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
        draws = augmentation.draw(noise, epoch, self.split.examples)
        return *self.train, tf.constant(places), tf.constant(draws)

    @staticmethod
    def step_inputs(epoch: Inputs, step: int | tf.Tensor) -> Inputs:
        """Return the training split with its draws, and the places of the step's examples in it.

        Each replica gathers its rows itself, so that no batch travels between devices.
        """
        images, labels, places, draws = epoch
        return images, labels, draws, places[step]

    def replica_batch(
        self, images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor, places: tf.Tensor
    ) -> Inputs:
        places = _part(places, self.cluster.replica, self.cluster.replicas)
        return tuple(tf.gather(array, places) for array in (images, labels, draws))

    def worker_batch(
        self, images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor, places: tf.Tensor
    ) -> Inputs:
        arrays = (*map(self.cluster.local, (images, labels)), draws)
        return tuple(tf.gather(array, places) for array in arrays)

    def train_batches(self) -> Batches:
        yield from _cut(*map(self.cluster.local, self.train))

    def validation_batches(self) -> Batches:
        yield from _cut(*self._validation)

    @functools.cached_property
    def _validation(self) -> Inputs:
        return tuple(map(tf.constant, tfrecords.read(self.directory, "validation")))

    def test_batches(self) -> Batches:
        yield from _cut(*self.test)

    def test_pieces(self) -> Batches:
        yield self.test

    def check(self) -> None:
        """Do nothing: what is in memory was checked when it was read."""


class Streamed:
    """Both splits read from their shards as they are needed, by each worker its rows."""

    compiled_as_loop = False  # XLA cannot read files: single steps are compiled

    def __init__(self, config: Config, directory: datasets.PreparedDataset, cluster: Cluster):
        self.config, self.directory, self.cluster = config, directory, cluster
        self.test_examples = directory.splits["test"].examples
        self.own_files = config.shard_files and cluster.workers > 1
        self.batch_here = config.batch_size // cluster.workers
        self.split = directory.splits["train"]
        self.steps_per_epoch = self.split.examples // config.batch_size
        if self.own_files:
            shards = self.split.shards
            if len(shards) < cluster.workers:
                raise InputError(
                    f"--shard_files expects at least one shard for each of {cluster.workers} "
                    f"workers. Found: {len(shards)}. Leave it out: each worker then reads all."
                )
            parts = [datasets.Split(shards[w :: cluster.workers]) for w in range(cluster.workers)]
            self.split = parts[cluster.worker]
            self.steps_per_epoch = min(part.examples for part in parts) // self.batch_here
        files = [shard.path for split in directory.splits.values() for shard in split.shards]
        small = sum(path.stat().st_size for path in files) < RESIDENT_BYTES
        for name in ("train", "test"):
            if small:
                tfrecords.check(directory, name)
            else:
                tfrecords.check_lengths(directory, name)

    def start_epoch(self, noise: Noise, epoch: int, first_step: int) -> Iterator[Inputs]:
        """Return an iterator over the batches of this worker, from `first_step` on."""
        # Of its own files a worker takes every row, in an order of its own.
        worker, workers = self.cluster.worker, self.cluster.workers
        if self.own_files:
            noise, worker, workers = noise.of_worker(worker), 0, 1
        return iter(
            tfrecords.stream(
                self.directory,
                self.split,
                noise,
                epoch=epoch,
                window=self.config.shuffle_window,
                batch_size=self.batch_here * workers,
                augment=self.config.augment != "none",
                steps=(first_step, self.steps_per_epoch),
                part=(worker, workers),
            )
        )

    @staticmethod
    def step_inputs(epoch: Iterator[Inputs], step: int | tf.Tensor) -> Inputs:
        """Return the next batch of this worker; steps are read in their order."""
        return next(epoch)

    def replica_batch(self, *batch: tf.Tensor) -> Inputs:
        here = self.cluster.replicas_here
        return tuple(_part(array, self.cluster.replica_here, here) for array in batch)

    def worker_batch(self, *batch: tf.Tensor) -> Inputs:
        return batch

    def train_batches(self) -> Batches:
        return self._in_order("train", part=(0, 1))

    def validation_batches(self) -> Batches:
        return self._in_order("validation", part=(0, 1))

    def test_batches(self) -> Batches:
        return self._in_order("test", part=(self.cluster.worker, self.cluster.workers))

    test_pieces = test_batches

    def _in_order(self, split: str, part: tuple[int, int]) -> Batches:
        batch = EVALUATION_BATCH if self.directory.one_size else LARGE_EVALUATION_BATCH
        with tfrecords.naming_the_damaged(self.directory):
            yield from tfrecords.stream_in_order(self.directory, split, batch_size=batch, part=part)

    def check(self) -> None:
        for split in ("train", "test"):
            tfrecords.check(self.directory, split, decode=True)
