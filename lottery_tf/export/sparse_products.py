"""Dense layers as products with sparse matrices, where those win on this machine."""

import statistics
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.plots import Row
from lottery_tf.pruning import Array

REPEATS, CALLS = 20, 50
WINS = 0.95  # of the time of the dense product, at most


class SparseDense(keras.layers.Layer):
    """keras.layers.Dense for inputs of rank 2 whose kernel is (indices, values).

    Args:
        kernel: float array (inputs, units), zero where pruned.
        bias: (units,), or None.
        activation: of the layer that it stands for.
    """

    def __init__(self, kernel: Array, bias: Array | None, activation: Any, **options: Any):
        super().__init__(trainable=False, **options)
        self.kernel_shape, self.activation = kernel.shape, activation
        where = np.argwhere(kernel)
        self.indices = self.add_weight(
            name="indices", shape=where.shape, dtype="int64", initializer=lambda *_, **__: where
        )
        self.values = self.add_weight(
            name="values", shape=(len(where),), initializer=lambda *_, **__: kernel[kernel != 0]
        )
        self.bias = None
        if bias is not None:
            self.bias = self.add_weight(
                name="bias", shape=bias.shape, initializer=lambda *_, **__: bias
            )

    def mask(self) -> Array:
        """Bool array of the kernel's shape: where the nonzero elements are."""
        mask = np.zeros(self.kernel_shape, bool)
        mask[tuple(self.indices.numpy().T)] = True
        return mask

    def call(self, inputs: Any) -> Any:
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
    """A model whose Dense layers are sparse products where that is faster, and what was measured.

    Args:
        model: a plain functional or sequential model whose pruned weights are zeros.
        batch_size: of the inputs that the product is measured with.

    Returns:
        The model, the same one if no sparse product wins; and a row for each Dense layer that has
        pruned weights and float32 inputs of rank 2: layer, density, milliseconds of either product,
        and whether the sparse one is used.
    """
    rows, chosen = [], set()
    for layer in model.layers:
        if type(layer) is not keras.layers.Dense or len(layer.input.shape) != 2:
            continue
        kernel = layer.get_weights()[0]
        if kernel.all() or layer.compute_dtype != "float32":
            continue
        dense, sparse = _milliseconds([layer, _sparse(layer)], kernel.shape[0], batch_size)
        if sparse < WINS * dense:
            chosen.add(layer.name)
        rows.append({
            "layer": layer.name, "density": np.count_nonzero(kernel) / kernel.size,
            "dense_ms": dense, "sparse_ms": sparse, "sparse": layer.name in chosen,
        })  # fmt: skip
    if not chosen:
        return model, rows

    # The other layers are the model's own.
    return keras.models.clone_model(
        model, clone_function=lambda layer: _sparse(layer) if layer.name in chosen else layer
    ), rows


def _sparse(layer):
    kernel, *bias = layer.get_weights()
    return SparseDense(kernel, bias[0] if bias else None, layer.activation, name=layer.name)


def _milliseconds(layers, width, batch_size):
    """The median times of layers on a batch, measured in turns.

    The products are repeated inside a graph: a call of it takes longer than a small product.
    """
    inputs = tf.random.stateless_normal((batch_size, width), (0, 0))
    calls = [_repeated(layer) for layer in layers]
    times = [[] for _ in layers]
    for call in calls:
        call(inputs)
    for _ in range(REPEATS):
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(inputs).numpy()
            of_call.append((time.perf_counter() - start) / CALLS)
    return [1000 * statistics.median(of_call) for of_call in times]


def _repeated(layer):
    """A function of inputs that computes the layer CALLS times."""

    @tf.function
    def call(inputs):
        total = tf.zeros(())
        for index in tf.range(CALLS):
            # The inputs change, so that no product is left out.
            outputs = layer(inputs * tf.cast(index + 1, tf.float32))
            total += tf.reduce_sum(outputs)
        return total

    return call
