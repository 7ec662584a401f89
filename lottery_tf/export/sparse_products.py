"""Replaces dense layers by products with sparse matrices, where those win on this machine."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.export import runner
from lottery_tf.plots import Row
from lottery_tf.pruning import Array

REPEATS, CALLS = 20, 50
WINS = 0.95  # of the time of the dense product, at most


class SparseDense(keras.layers.Layer):
    """A Dense layer for inputs of rank 2 whose kernel is stored as (indices, values)."""

    def __init__(self, kernel: Array, bias: Array | None, activation: Callable, **options: Any):
        super().__init__(trainable=False, **options)
        self.kernel_shape, self.activation = kernel.shape, activation
        where = np.argwhere(kernel)
        self.indices = self._stored("indices", where, dtype="int64")
        self.values = self._stored("values", kernel[kernel != 0])
        self.bias = None if bias is None else self._stored("bias", bias)

    def _stored(self, name: str, array: Array, dtype: str | None = None) -> keras.Variable:
        """Add a weight that starts as an array."""
        return self.add_weight(
            name=name, shape=array.shape, dtype=dtype, initializer=lambda *_, **__: array
        )

    def mask(self) -> Array:
        """Return where the nonzero elements are: bool, of the kernel's shape."""
        mask = np.zeros(self.kernel_shape, bool)
        mask[tuple(self.indices.numpy().T)] = True
        return mask

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = tf.SparseTensor(self.indices.value, self.values.value, self.kernel_shape)
        # (units, inputs) of the sparse kernel by (inputs, batch)
        outputs = tf.transpose(
            tf.sparse.sparse_dense_matmul(kernel, inputs, adjoint_a=True, adjoint_b=True)
        )
        outputs = tf.ensure_shape(outputs, (inputs.shape[0], self.kernel_shape[1]))
        outputs = outputs if self.bias is None else outputs + self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.kernel_shape[1])


def replace(model: keras.Model, batch_size: int) -> tuple[keras.Model, list[Row]]:
    """Return a model whose Dense layers are sparse products where that is faster, and the times.

    There is a row for each Dense layer that has pruned weights and float32 inputs of rank 2: layer,
    density, milliseconds of either product, and whether the sparse one is used. The model is the
    same one if no sparse product wins.
    """
    rows: list[Row] = []
    sparse: dict[str, SparseDense] = {}
    for layer in model.layers:
        if type(layer) is not keras.layers.Dense or len(layer.input.shape) != 2:
            continue
        kernel, *bias = layer.get_weights()
        if kernel.all() or layer.compute_dtype != "float32":
            continue
        other = SparseDense(kernel, bias[0] if bias else None, layer.activation, name=layer.name)
        dense_ms, sparse_ms = _milliseconds([layer, other], kernel.shape[0], batch_size)
        wins = sparse_ms < WINS * dense_ms
        if wins:
            sparse[layer.name] = other
        rows.append(
            {
                "layer": layer.name,
                "density": np.count_nonzero(kernel) / kernel.size,
                "dense_ms": dense_ms,
                "sparse_ms": sparse_ms,
                "sparse": wins,
            }
        )
    if sparse:  # the other layers are the model's own
        model = keras.models.clone_model(
            model, clone_function=lambda layer: sparse.get(layer.name, layer)
        )
    return model, rows


def _milliseconds(layers: list[keras.Layer], width: int, batch_size: int) -> list[float]:
    """Return the median times of layers on a batch, measured in turns.

    Each product is repeated inside a graph, because a call of the graph takes longer than a small
    product.
    """

    def repeated(layer: keras.Layer) -> runner.Call:
        @tf.function
        def total(inputs: tf.Tensor) -> tf.Tensor:
            found = tf.zeros(())
            for index in tf.range(CALLS):
                # The inputs change, so that no product is left out.
                found += tf.reduce_sum(layer(inputs * tf.cast(index + 1, tf.float32)))
            return found

        return lambda given: {"total": total(given["inputs"]).numpy()}

    given: dict[str, Any] = {"inputs": tf.random.stateless_normal((batch_size, width), (0, 0))}
    times = runner.milliseconds([repeated(layer) for layer in layers], given, REPEATS)
    return [time / CALLS for time in times]
