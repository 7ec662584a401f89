"""Replaces dense layers by products with sparse matrices, where those win on this machine.

TensorFlow has two kernels. "coo" (SparseTensorDenseMatMul) uses one thread and starts at once: it
wins for single examples. "csr" (SparseMatrixMatMul) shards the rows over all threads, in oneDNN
with TF_ENABLE_ONEDNN_SPMM=1: it wins for batches. Each call makes its matrix anew, because a
SavedModel cannot keep a variant: the kernel's shape function and the loader refuse one whose making
they do not see.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.export import runner
from lottery_tf.plots import Row
from lottery_tf.pruning import Array

KERNELS = ("coo", "csr")
REPEATS = 20
PRODUCTS, MOST_CALLS = 10**9, 50  # of a graph that repeats a layer, at most
WINS = 0.95  # of the time of the dense product, at most


class SparseDense(keras.layers.Layer):
    """A Dense layer for inputs of rank 2 whose kernel is stored as (indices, values).

    Both describe the transposed kernel (units, inputs), because the products need its rows.
    """

    def __init__(
        self, product: str, kernel: Array, bias: Array | None, activation: Callable, **options: str
    ):
        super().__init__(trainable=False, **options)
        rows = kernel.T
        self.product, self.rows_shape, self.activation = product, rows.shape, activation
        self.indices = self._stored("indices", np.argwhere(rows), dtype="int64")
        self.values = self._stored("values", rows[rows != 0])
        self.bias = None if bias is None else self._stored("bias", bias)

    def _stored(self, name: str, array: Array, dtype: str | None = None) -> keras.Variable:
        """Add a weight that starts as an array."""
        return self.add_weight(
            name=name, shape=array.shape, dtype=dtype, initializer=lambda *_, **__: array
        )

    def mask(self) -> Array:
        """Return where the nonzero elements of the transposed kernel are: bool."""
        mask = np.zeros(self.rows_shape, bool)
        mask[tuple(self.indices.numpy().T)] = True
        return mask

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        indices, values = self.indices.value, self.values.value
        columns = tf.transpose(inputs)  # (inputs, batch); the kernels' own transposes are slower
        if self.product == "coo":
            rows = tf.SparseTensor(indices, values, self.rows_shape)
            outputs = tf.sparse.sparse_dense_matmul(rows, columns)
        else:
            csr = tf.raw_ops.SparseTensorToCSRSparseMatrix(
                indices=indices, values=values, dense_shape=tf.constant(self.rows_shape, tf.int64)
            )
            outputs = tf.raw_ops.SparseMatrixMatMul(a=csr, b=columns)
        outputs = tf.ensure_shape(tf.transpose(outputs), (inputs.shape[0], self.rows_shape[0]))
        outputs = outputs if self.bias is None else outputs + self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.rows_shape[0])


def replace(model: keras.Model, batch_size: int) -> tuple[keras.Model, list[Row]]:
    """Return a model whose Dense layers are sparse products where that is faster, and the times.

    There is a row for each Dense layer that has pruned weights and float32 inputs of rank 2: layer,
    density, milliseconds of each product, and which one is used. If no sparse product wins, the
    model is returned unchanged.
    """
    rows: list[Row] = []
    sparse: dict[str, SparseDense] = {}
    for layer in model.layers:
        if type(layer) is not keras.layers.Dense or len(layer.input.shape) != 2:
            continue
        if layer.get_weights()[0].all() or layer.compute_dtype != "float32":
            continue
        layers = ways(layer)
        inputs = tf.random.stateless_normal((batch_size, layer.input.shape[-1]), (0, 0))
        found = _milliseconds(list(layers.values()), inputs)
        times = dict(zip(layers, found, strict=True))
        fastest = min(KERNELS, key=lambda name: times[name])
        wins = times[fastest] < WINS * times["dense"]
        if wins:
            sparse[layer.name] = layers[fastest]
        kernel = layer.get_weights()[0]
        rows.append(
            {
                "layer": layer.name,
                "density": np.count_nonzero(kernel) / kernel.size,
                **{f"{name}_ms": ms for name, ms in times.items()},
                "product": fastest if wins else "dense",
            }
        )
    if sparse:  # the other layers are the model's own
        model = keras.models.clone_model(
            model, clone_function=lambda layer: sparse.get(layer.name, layer)
        )
    return model, rows


def ways(layer: keras.layers.Dense) -> dict[str, keras.layers.Layer]:
    """Return a layer for "dense" and for each of KERNELS that computes this one that way."""
    kernel, *bias = layer.get_weights()
    given = kernel, bias[0] if bias else None, layer.activation
    return {"dense": layer} | {name: SparseDense(name, *given, name=layer.name) for name in KERNELS}


def repeated(layer: keras.layers.Layer, inputs: tf.Tensor) -> tuple[Callable[[], object], int]:
    """Return a function that calls a layer several times inside one graph, and how often.

    Calling a graph takes longer than a small product.
    """
    weights = layer.rows_shape if isinstance(layer, SparseDense) else layer.kernel.shape
    calls = max(1, min(MOST_CALLS, PRODUCTS // (inputs.shape[0] * math.prod(weights))))

    @tf.function
    def total() -> tf.Tensor:
        found = tf.zeros(())
        for index in tf.range(calls):
            # The inputs change, so that no product is left out.
            found += tf.reduce_sum(layer(inputs * tf.cast(index + 1, tf.float32)))
        return found

    total()  # compiles
    return lambda: total().numpy(), calls


def _milliseconds(layers: list[keras.layers.Layer], inputs: tf.Tensor) -> list[float]:
    """Return the median times of layers on a batch, measured in turns."""
    measured, counts = zip(*(repeated(layer, inputs) for layer in layers), strict=True)
    calls = [lambda _, measure=measure: {"total": measure()} for measure in measured]
    times = runner.milliseconds(calls, {}, REPEATS)
    return [time / count for time, count in zip(times, counts, strict=True)]
