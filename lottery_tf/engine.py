"""Trains these weights, under these masks, from step s to step t, with this SGD noise."""

import time

import numpy as np
import tensorflow as tf

from lottery_tf import feeds, masking, models
from lottery_tf.errors import InputError
from lottery_tf.schedules import learning_rates
from lottery_tf.training import Trainer, cross_entropy

PIECE_SECONDS = 2.0  # the compiled program comes up for signals about this often


class Engine:
    """Runs Trainer.train_step over the epochs of a dataset; compiled once, for all rounds.

    Args:
        config: Config.
        directory: datasets.Directory of config.dataset.

    Raises:
        InputError: the data are damaged, or the batch is larger than the training split.
    """

    def __init__(self, config, directory):
        self.config, self.directory = config, directory
        self.split = directory.splits["train"]
        if config.batch_size > self.split.examples:
            raise InputError(
                f"--batch_size: expected at most {self.split.examples}, the examples of the "
                f"training split of {config.dataset}. Received: {config.batch_size}"
            )
        self.steps_per_epoch = self.split.examples // config.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.rates = learning_rates(config, self.steps_per_epoch)
        self.strategy = tf.distribute.OneDeviceStrategy(_device())
        shape, classes = directory.input_shape, directory.classes
        # The seed does not matter: train() is given the weights.
        self.network = models.build(config, shape, classes, seed=0, strategy=self.strategy)
        with self.strategy.scope():
            self.trainer = Trainer(self.network, config)
        masking.variables(self.network)  # two of one path are an error, now rather than later
        self.dropout_states = [
            variable for variable in self.network.variables if "seed_generator" in variable.path
        ]
        self.feed = feeds.make(config, directory)
        self.mean, self.std = feeds.constants(config, directory)
        self.augment = feeds.augment(config, directory)
        self._compile()
        self._seconds_per_step = None

    def _compile(self):
        # Kernels of rank above 2 are convolutions, which XLA runs at half speed on a CPU.
        convolutional = any(
            len(kernel.mask.shape) > 2 for kernel in masking.kernels(self.network).values()
        )
        on_cpu = not tf.config.list_logical_devices("GPU")
        auto = self.config.jit_compile == "auto" and not (convolutional and on_cpu)
        jit = auto or self.config.jit_compile == "on"
        # XLA cannot read files: what is streamed is compiled by step, what is resident as a loop.
        resident = isinstance(self.feed, feeds.Resident)
        self._one_step = tf.function(self._step, jit_compile=jit and not resident)
        self._run_steps = tf.function(self._steps, jit_compile=jit and resident)
        self._evaluate_batch = tf.function(self._evaluate, jit_compile=jit)

    def dense_masks(self):
        """{kernel path: bool array}, True everywhere."""
        kernels = masking.kernels(self.network)
        return {path: np.ones(kernel.mask.shape, bool) for path, kernel in kernels.items()}

    def _step(self, images, labels, words, rate):
        self.trainer.optimizer.learning_rate.assign(rate)
        self.trainer.train_step((self._normalise(self.augment(images, words)), labels))

    def _steps(self, epoch, rates, first, last):
        """Steps first to last - 1 of an epoch, which feed.epoch gave."""
        step = first
        while step < last:  # tf.range would be compiled anew for every pair of bounds
            batch = self.feed.batch(epoch, step)
            self.strategy.run(self._one_step, args=(*batch, rates[step]))
            step += 1

    def _normalise(self, images):
        return (tf.cast(images, tf.float32) / 255 - self.mean) / self.std

    def train(self, weights, masks, noise, *, first=0, last=None, on_piece=None, on_epoch=None):
        """Trains weights under masks from step `first` to step `last` with a fresh optimizer.

        Args:
            weights: {variable path: array}, zero where masked.
            masks: {kernel path: bool array}.
            noise: datasets.order.Noise.
            first, last: steps of the schedule; by default the whole of it.
            on_piece: called every few seconds with (steps done since the schedule's step 0,
                running train loss, running train accuracy). What it raises ends the training.
            on_epoch: called with each row of the history.

        Returns:
            (weights, history): new {variable path: array}, and per finished epoch a dict of
            epoch (from 1), step, learning_rate, train_loss, train_accuracy (running means over
            the epoch of the cross-entropy alone), test_loss, test_accuracy, seconds (of all) and
            train_seconds (of the steps).

        Raises:
            InputError: the loss is not finite, or a streamed file is damaged.
        """
        last = self.steps if last is None else last
        masking.set_weights(self.network, weights, masks)
        self.trainer.reset_optimizer()
        for index, state in enumerate(self.dropout_states):
            words = noise.generator(first, 2, index)  # 2: another stream than order and words
            state.assign(words.integers(0, 2**32, state.shape, np.uint32))
        history, step = [], first
        while step < last:
            epoch, start = divmod(step, self.steps_per_epoch)
            stop = min(self.steps_per_epoch, last - epoch * self.steps_per_epoch)
            row = self._epoch(noise, epoch, start, stop, first, on_piece)
            step = epoch * self.steps_per_epoch + stop
            if stop == self.steps_per_epoch:
                history.append(row)
                if on_epoch:
                    on_epoch(row)
        return masking.get_weights(self.network), history

    def _epoch(self, noise, epoch, start, stop, first, on_piece):
        """Steps start to stop - 1 of an epoch of a training from `first`: a row of the history."""
        began, train_seconds, base = time.perf_counter(), 0.0, epoch * self.steps_per_epoch
        rates = tf.constant(self.rates[base : base + self.steps_per_epoch])
        data = self.feed.epoch(noise, epoch, start)
        self.trainer.reset_metrics()
        step = start
        while step < stop:
            piece = min(stop, step + self._piece_steps())
            piece_began = time.perf_counter()
            try:
                self._run_steps(data, rates, tf.constant(step), tf.constant(piece))
            except tf.errors.OpError:
                self.feed.check()  # the error names no file; this does
                raise
            loss = float(self.trainer.loss_mean.result())
            accuracy = float(self.trainer.accuracy_mean.result())
            seconds = time.perf_counter() - piece_began
            train_seconds += seconds
            self._seconds_per_step = seconds / (piece - step)
            self._check_finite(noise, first)
            step = piece
            if on_piece:
                on_piece(base + step, loss, accuracy)
        test_loss, test_accuracy = self.evaluate()
        if not np.isfinite(test_loss):
            raise _not_finite(noise.round, epoch, base + stop - 1, f"test loss is {test_loss}")
        return {
            "epoch": epoch + 1,
            "step": base + stop,
            "learning_rate": float(rates[stop - 1]),
            "train_loss": loss,
            "train_accuracy": accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds": time.perf_counter() - began,
            "train_seconds": train_seconds,
        }

    def _piece_steps(self):
        if self._seconds_per_step is None:
            return 1  # compiles
        return max(1, int(PIECE_SECONDS / self._seconds_per_step))

    def _check_finite(self, noise, first):
        bad = int(self.trainer.first_bad_update)
        if bad >= 0:
            step = first + bad
            epoch = step // self.steps_per_epoch
            raise _not_finite(noise.round, epoch, step, "loss is not finite")

    def evaluate(self):
        """(mean cross-entropy, accuracy) of the network on the whole test split."""
        examples = self.directory.splits["test"].examples
        totals = np.zeros(2)
        for images, labels in self.feed.test_batches():
            totals += self._evaluate_batch(images, labels).numpy()
        loss, accuracy = totals / examples
        return float(loss), float(accuracy)

    def _evaluate(self, images, labels):
        logits = tf.cast(self.network(self._normalise(images), training=False), tf.float32)
        hits = tf.argmax(logits, -1, output_type=labels.dtype) == labels
        return tf.stack(
            [
                tf.reduce_sum(cross_entropy(labels, logits)),
                tf.reduce_sum(tf.cast(hits, tf.float32)),
            ]
        )


def _device():
    return "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"


def _not_finite(round, epoch, step, what):
    return InputError(
        f"Round {round}, epoch {epoch + 1}, step {step}: the {what}. The finished rounds are kept. "
        "Lower --learning_rate, or raise --warmup_epochs, in another --run_dir."
    )
