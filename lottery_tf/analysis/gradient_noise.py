"""The noise of gradients over batches, and from it the simple noise scale. Imports TensorFlow."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.gradients import autodiff, call_with, cross_entropy, values_of
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.engine import Engine

SMALL_BATCH = 50


class GradientNoise:
    """Computes the gradients of many batches of the training split, in one compiled loop.

    Args:
        engine: its network gives the function, its feed the examples.
        examples: how many of them, as `visited`; those that fill no batch are left out.
    """

    def __init__(self, engine: Engine, examples: int):
        self.network, self.normalise = engine.network, engine.normalise
        norm, layers = keras.layers.BatchNormalization, keras_private.flatten_layers(self.network)
        # A batch that is normalised by itself has a gradient that is no mean over examples.
        self.training = any(isinstance(layer, norm) for layer in layers)
        size = engine.config.batch_size if self.training else SMALL_BATCH
        images, labels = visited(engine, examples)
        if (count := len(labels) // size) < 2:
            raise InputError(
                f"--examples: expected two batches of {size} or more. Received: {len(labels)}"
            )
        self.size, self.count = size, count
        self.images, self.labels = (
            tf.constant(array[: count * size].reshape(count, size, *array.shape[1:]))
            for array in (images, labels)
        )
        self.paths = [variable.path for variable in self.network.trainable_variables]
        self._sums = tf.function(self._sums_over_batches, jit_compile=engine.jit)

    def of(self, weights: Weights, masks: Masks) -> Row:
        """Return {gradient_squared, variance, noise_scale} of a network; it does not change."""
        kernels, values = values_of(self.network, weights, masks)
        values |= dict(zip(masks, kernels, strict=True))
        total, squares = self._sums(values, self.images, self.labels)
        mean = total.numpy().astype(np.float64) / self.count
        return estimate(float(squares) / self.count, float(mean @ mean), self.size, self.count)

    def _sums_over_batches(self, values: dict[str, Any], images: Any, labels: Any) -> Any:
        """Return the sum of the gradients as one vector, and that of their squared norms."""
        point = [values[path] for path in self.paths]

        def gradient_of(index: Any) -> Any:
            def loss(at: list[Any]) -> Any:
                known = values | dict(zip(self.paths, at, strict=True))
                inputs = self.normalise(images[index])
                logits = call_with(self.network, known, inputs, training=self.training)
                return cross_entropy(labels[index], logits)

            parts = autodiff.derivatives(loss, point)
            return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], 0)

        def add(index: Any, total: Any, squares: Any) -> tuple[Any, Any, Any]:
            gradient = gradient_of(index)
            squared = tf.cast(tf.reduce_sum(gradient**2), tf.float64)
            return index + 1, total + gradient, squares + squared

        length = sum(int(np.prod(tensor.shape)) for tensor in point)
        start = (tf.constant(0), tf.zeros(length), tf.constant(0.0, tf.float64))
        _, total, squares = tf.while_loop(lambda index, *_: index < self.count, add, start)
        return total, squares


def visited(engine: Engine, examples: int) -> tuple[Array, Array]:
    """Return the first images and labels that the first epoch of round 0 visits, unaugmented.

    They are in a random order: in that of their files, neighbours may be alike, as those of MNIST
    of one writer, and batches of them have gradients that vary too much.
    """
    feed, size = engine.feed, engine.config.batch_size
    epoch, found = feed.start_epoch(Noise(engine.config.data_seed, 0), 0, 0), []
    for step in range(min(-(-examples // size), engine.steps_per_epoch)):
        found.append(feed.worker_batch(*feed.step_inputs(epoch, step))[:2])
    images, labels = (np.concatenate(some)[:examples] for some in zip(*found, strict=True))
    return images, labels


def estimate(of_batches: float, of_mean: float, size: int, count: int) -> Row:
    """Return {gradient_squared, variance, noise_scale}: unbiased |G|^2 and tr(Sigma), and B.

    McCandlish et al. 2018, appendix A.1, from two batch sizes: E |g_b|^2 = |G|^2 + tr(Sigma)/b for
    a batch of b examples. B = tr(Sigma)/|G|^2 is NaN where the estimate of |G|^2 is not positive.

    Args:
        of_batches: the mean of |g|^2 over `count` batches of `size` examples.
        of_mean: |g|^2 of the gradient of all of them together.
        size, count: of the batches.
    """
    examples = size * count
    variance = (of_batches - of_mean) / (1 / size - 1 / examples)
    squared = (examples * of_mean - size * of_batches) / (examples - size)
    scale = variance / squared if squared > 0 else float("nan")
    return {"gradient_squared": squared, "variance": variance, "noise_scale": scale}
