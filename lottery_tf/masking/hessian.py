"""Products with the Hessian of a masked network's loss. Imports TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf
from scipy.sparse.linalg import LinearOperator

from lottery_tf.masking.gradients import call_with, cross_entropy, traced, values_of
from lottery_tf.pruning import Array, Masks, Weights


class Hessian:
    """The Hessian of the mean cross-entropy, in evaluation mode, of a sample.

    It is with respect to the trainable weights that are alive: kernels under their masks, biases,
    scales and offsets. BatchNorm takes its running statistics.

    Args:
        model: a built keras.Model with masked layers, inputs -> logits; it does not change.
        inputs: (examples, …), as the model takes them.
        labels: (examples,) class numbers.
        batch_size: examples at once; the sum over all is exact.
    """

    def __init__(self, model: Any, inputs: Any, labels: Any, *, batch_size: int = 500):
        self.model, self.inputs, self.labels = model, inputs, labels
        self.batch_size = batch_size
        self.paths = [variable.path for variable in model.trainable_variables]
        self._product = traced(self._product_of_batch)

    def at(self, weights: Weights, masks: Masks) -> LinearOperator:
        """The Hessian at some weights {path: array}, (alive, alive), alive in the model's order."""
        kernels, values = values_of(self.model, weights, masks)
        values |= dict(zip(masks, kernels, strict=True))
        point = [values.pop(path) for path in self.paths]
        shapes = {path: value.shape for path, value in zip(self.paths, point, strict=True)}
        masked = [masks.get(path, np.ones(shape, bool)) for path, shape in shapes.items()]
        alive = np.concatenate([mask.ravel() for mask in masked])
        count = int(alive.sum())

        def multiply(vector: Array) -> Array:
            return self._multiply(vector.ravel(), point, values, alive)

        return LinearOperator((count, count), matvec=multiply, dtype=np.float64)

    def _multiply(self, vector, point, values, alive):
        flat = np.zeros(alive.size)
        flat[alive] = vector
        ends = np.cumsum([int(np.prod(value.shape)) for value in point])
        parts = [
            tf.constant(part.reshape(value.shape), value.dtype)
            for part, value in zip(np.split(flat, ends[:-1]), point, strict=True)
        ]
        examples, total = len(self.labels), np.zeros(alive.size)
        for first in range(0, examples, self.batch_size):
            rows = slice(first, first + self.batch_size)
            inputs, labels = map(tf.convert_to_tensor, (self.inputs[rows], self.labels[rows]))
            product = self._product(point, values, parts, inputs, labels).numpy()
            total += product.astype(np.float64) * (int(labels.shape[0]) / examples)
        return total[alive]

    def _product_of_batch(self, point, values, parts, inputs, labels):
        """H v as one vector: the gradient of the product of the gradient and v."""
        with tf.GradientTape() as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                known = values | dict(zip(self.paths, point, strict=True))
                loss = cross_entropy(labels, call_with(self.model, known, inputs, training=False))
            gradients = inner.gradient(loss, point, unconnected_gradients="zero")
            dot = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradients, parts, strict=True)])
        products = outer.gradient(dot, point, unconnected_gradients="zero")
        return tf.concat([tf.reshape(product, [-1]) for product in products], 0)
