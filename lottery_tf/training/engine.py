"""Trains these weights, under these masks, from step s to step t, with this SGD noise."""

import dataclasses
import functools
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset, augmentation, tfrecords
from lottery_tf.masking import keras_generators, keras_private
from lottery_tf.plots import Row
from lottery_tf.pruning import Masks, Weights, streams
from lottery_tf.pruning.schedules import learning_rates
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion.loss import to_devices
from lottery_tf.repulsion.optima import repulsion_metrics
from lottery_tf.runs.checkpoints import Checkpoint, Progress
from lottery_tf.training import checks, feeds
from lottery_tf.training.devices import Cluster
from lottery_tf.training.evaluation import Evaluator
from lottery_tf.training.gradual import Gradual
from lottery_tf.training.squared_gradients import SquaredGradients
from lottery_tf.training.state import State
from lottery_tf.training.trainer import Trainer
from lottery_tf.training.training import Training
from lottery_tf.training.workers import FAILURES

PIECE_SECONDS = 2.0  # the compiled program comes up for signals about this often


class Engine:
    """Runs Trainer.train_step over the epochs of a dataset; compiled once, for all rounds.

    Args:
        config: Config.
        directory: datasets.PreparedDataset of config.dataset.
        cluster: cluster.Cluster, the devices to compute on.

    Raises:
        InputError: the data are damaged, or the batch is larger than the training split or does
            not divide by the replicas.
    """

    @keras_generators.kept()
    def __init__(self, config: Config, directory: PreparedDataset, cluster: Cluster):
        self.config, self.directory, self.cluster = config, directory, cluster
        checks.check_batch(config, directory, cluster)
        tfrecords.check_first(directory)
        shape, classes = directory.input_shape, directory.classes
        # The seed does not matter: train() is given the weights.
        self.network = models.build(config, shape, classes, seed=0, strategy=cluster.strategy)
        if cluster.replicas > 1 and config.sync_bn:
            for layer in keras_private.flatten_layers(self.network):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        with cluster.strategy.scope():
            self.trainer = Trainer(self.network, config)
        masking.variables(self.network)  # two of one path are an error, now rather than later
        self._state = State(self.trainer, cluster)
        self.feed = feeds.make(config, directory, cluster)
        self.steps_per_epoch = self.feed.steps_per_epoch
        checks.check_updates(config, self.steps_per_epoch)
        self.steps = config.epochs * self.steps_per_epoch
        self.rates = learning_rates(config, self.steps_per_epoch)
        self.rewind_step = checks.rewind_step(config, self.steps_per_epoch)
        self.uniform = streams.uniform  # what random scores come from; of old runs old_uniform
        self._gradual = Gradual(config, None, self.steps_per_epoch)
        self.normalise = feeds.normaliser(config, directory)
        self.augment = augmentation.choose(config, directory)
        self.jit = checks.use_xla(config, self.network, cluster)
        self._compile()
        self._seconds_per_step: float | None = None

    def _compile(self):
        jit, loop = self.jit, self.feed.compiled_as_loop
        self._one_step = tf.function(self._step, jit_compile=jit and not loop)
        self._run_steps = tf.function(self._steps, jit_compile=jit and loop)
        self.evaluator = Evaluator(
            self.network, self.feed, self.normalise, self.cluster, jit_compile=jit
        )

    def dense_masks(self) -> Masks:
        """{kernel path: bool array}, True everywhere."""
        kernels = masking.kernels(self.network)
        return {path: np.ones(kernel.mask.shape, bool) for path, kernel in kernels.items()}

    def masks(self) -> Masks:
        """{kernel path: bool array} of the network as it is."""
        return masking.get_masks(self.network)

    def _step(self, batch, rate, optima):
        images, labels, draws = self.feed.of_replica(*batch)
        learning_rate = self.trainer.optimizer.learning_rate
        learning_rate.assign(tf.cast(rate, learning_rate.dtype))
        images = self.normalise(self.augment(images, draws))
        self.trainer.train_step((images, labels), optima)

    def _steps(self, epoch, rates, first, last, optima):
        """Steps first to last - 1 of an epoch, which feed.epoch gave."""
        step = first
        while step < last:  # tf.range would be compiled anew for every pair of bounds
            batch = self.feed.of_step(epoch, step)
            self.cluster.strategy.run(self._one_step, args=(batch, rates[step], optima))
            step += 1

    def train(self, training: Training, *, on_piece: Callable[[Progress], None] | None = None,
              on_epoch: Callable[[Row], None] | None = None
              ) -> tuple[Weights, list[Row]]:  # fmt: skip
        """Trains with a fresh optimizer, or goes on from a checkpoint as if it had never stopped.

        Args:
            training: Training; all but its start are those of the checkpoint, if it has one.
            on_piece: called every few seconds with the Progress; what it raises ends the training.
            on_epoch: called with each row of the history.

        Returns:
            (weights, history): new {variable path: array}, and per finished epoch a dict of
            epoch (from 1), step, learning_rate, train_loss, train_accuracy (running means, without
            other losses), test_loss, test_accuracy, test_largest_class (part of the examples given
            the most frequent answer), seconds (of all) and train_seconds (of the steps).

        Raises:
            InputError: the loss is not finite, or a streamed file is damaged.
        """
        last = self.steps if training.last is None else training.last
        self._gradual = Gradual(self.config, training.density, self.steps_per_epoch, self.uniform)
        self._on_devices = to_devices(training.optima, self.cluster)
        self.compile_seconds = 0.0
        if training.optima:
            self._seconds_per_step = None  # their shapes are new: the program is compiled again
        if isinstance(training.start, Checkpoint):
            progress = training.start.progress
            self._state.restore(training.start.state, training.masks)
        else:
            progress = Progress(training.first)
            self._state.start(training)
            self._prune_before(progress.step, training.noise.round)
        while progress.step < last:
            before = progress
            for progress in self._epoch(training, before, last):
                if on_epoch and len(progress.history) > len(before.history):
                    on_epoch(progress.history[-1])
                if on_piece:
                    on_piece(progress)
        return masking.get_weights(self.network), progress.history

    def state(self) -> Weights:
        """{name: array} of all that a training holds between two steps; every worker calls it."""
        return self._state.capture()

    def _epoch(self, training, progress, last):
        """Yields the Progress of an epoch, piece by piece, from the given one on."""
        epoch, step = divmod(progress.step, self.steps_per_epoch)
        base = epoch * self.steps_per_epoch
        stop = min(self.steps_per_epoch, last - base)
        if step == 0:
            self.trainer.set_totals(0)
        began = time.perf_counter()
        steps = np.arange(base, base + self.steps_per_epoch)
        rates = tf.constant(self.rates[np.minimum(steps, self.steps - 1)])
        # Where something happens between two steps, a piece ends.
        halts = [at - base for at in (self.rewind_step, *self._gradual.densities)]
        data = self.feed.epoch(training.noise, epoch, step)
        while step < stop:
            piece = min(stop, step + self._piece_steps(), *(at for at in halts if at > step))
            train_seconds, totals = self._run_piece(data, rates, step, piece)
            loss, accuracy = checks.running_means(self, training, totals)
            self._prune_before(base + piece, training.noise.round)
            progress = dataclasses.replace(
                progress,
                step=base + piece,
                loss=loss,
                accuracy=accuracy,
                train_seconds=progress.train_seconds + train_seconds,
            )
            step, row = piece, []
            if step == self.steps_per_epoch:
                row = [self._row(training, progress, float(rates[-1]))]
            seconds = progress.seconds + time.perf_counter() - began
            if row:
                row[0] |= {"seconds": seconds, "train_seconds": progress.train_seconds}
                seconds = 0.0  # the row has them
                progress = dataclasses.replace(progress, train_seconds=0.0)
            progress = dataclasses.replace(
                progress, history=progress.history + row, seconds=seconds
            )
            yield progress
            began = time.perf_counter()

    def _prune_before(self, step, round):
        """Prunes gradually, if that is due before a step."""
        if step in self._gradual.densities:
            weights = masking.get_weights(self.network)
            self._state.prune(self._gradual.prune(step, weights, self.masks(), round))

    def _run_piece(self, data, rates, first, last):
        """(seconds, Trainer.totals) after steps first to last - 1 of an epoch."""
        began = time.perf_counter()
        try:
            self._run_steps(data, rates, tf.constant(first), tf.constant(last), self._on_devices)
            totals = self.trainer.totals.numpy()
        except tf.errors.OpError as error:
            if not (self.cluster.workers > 1 and isinstance(error, FAILURES)):
                self.feed.check()  # the error names no file; this does
            raise
        seconds = step_seconds = time.perf_counter() - began
        if self._seconds_per_step is None:  # one step, and compiling
            self.compile_seconds += seconds
            step_seconds = 0.0
        # All workers must run equal pieces.
        (total,) = self.cluster.sum(np.array([seconds / (last - first)]))
        self._seconds_per_step = total / self.cluster.workers
        return step_seconds, totals

    def _piece_steps(self):
        seconds = self._seconds_per_step or np.inf  # the first piece is one step, and compiling
        return max(1, int(PIECE_SECONDS / seconds))

    def _row(self, training, progress, rate):
        """The row of the history for the epoch that ends here, without its times."""
        epoch = progress.step // self.steps_per_epoch
        test_loss, test_accuracy, largest_class = self.evaluator.evaluate()
        if not np.isfinite(test_loss):
            what = f"test loss is {test_loss}"
            raise checks.not_finite(self.config, training, epoch - 1, progress.step - 1, what)
        row = {
            "epoch": epoch,
            "step": progress.step,
            "learning_rate": rate,
            "train_loss": progress.loss,
            "train_accuracy": progress.accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "test_largest_class": largest_class,
        }
        if training.optima:
            weights = masking.get_weights(self.network)
            strength, scope = self.config.repel, self.config.repel_scope
            row |= repulsion_metrics(weights, training.optima, strength=strength, scope=scope)
        return row

    def squared_gradients(self, noise: Noise) -> Weights:
        """{kernel path: mean squared gradient of the data} at the weights as they are."""
        return self._squared_gradients.mean(noise)

    @functools.cached_property
    def _squared_gradients(self):
        return SquaredGradients(self)

    def evaluate(self) -> tuple[float, float]:
        """(mean cross-entropy, accuracy) of the network on the whole test split."""
        return self.evaluator.evaluate()[:2]
