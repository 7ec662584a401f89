"""Compute gradients, Hessian products and the flow of a masked network, on Keras's backend.

They are functions of weights that are passed in: the network does not change. What a backend does
in its own way stands in `autodiff_tensorflow`, `autodiff_jax` and `autodiff_torch`. Each has

- `traced(function)`: the function, compiled where `fit` compiles its step;
- `derivatives(function, at)`: those of a number by each of some tensors, zero where it does not
  depend on one. The function may itself call `derivatives`, inside `twice`;
- `twice()`: a context in which what is traced has right second derivatives;
- `with_float64()`: a context in which float64 is computed as such;
- `LACKING`: a pattern of the backend's errors where an operation has no gradient.
"""

import contextlib
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import copying, keras_private, layers, network
from lottery_tf.masking.batches import Batch, examples_of, in_batches
from lottery_tf.pruning import Array, Masks, Weights

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Tensor = Any  # of the backend
Kernels = list[Tensor]  # the values of the kernels, in the order of `network.kernels`
Others = dict[str, Tensor]  # {path: value} of all other variables

autodiff: Any = importlib.import_module(f"lottery_tf.masking.autodiff_{keras.backend.backend()}")

TEMPERATURE = 200.0  # Wang et al. 2020 divide the logits by it


def lacks_gradient(error: BaseException) -> bool:
    """Return whether an error says that the backend has no gradient of an operation."""
    return re.search(autodiff.LACKING, str(error)) is not None


def cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Return the mean cross-entropy of class numbers."""
    # A copy: with the output of a softmax Keras keeps its logits, and would take those.
    logits = keras.ops.copy(logits)
    losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return keras.ops.mean(losses)


def loss_of_class_numbers(
    model: keras.Model, values: dict[str, Any], batch: Batch, temperature: Tensor, training: bool
) -> Tensor:
    """Return the mean cross-entropy of a batch; the arguments are those of `loss_of_fit`."""
    inputs, labels, weights = batch
    if weights is not None:
        raise InputError("Sample weights weigh a loss: compile the model with one first.")
    logits = call_with(model, values, inputs, training=training)
    return cross_entropy(labels, logits / keras.ops.cast(temperature, logits.dtype))


def loss_of_fit(
    model: keras.Model, values: dict[str, Any], batch: Batch, temperature: Tensor, training: bool
) -> Tensor:
    """Return the loss of a batch that `fit` minimizes, without the regularizers of the weights.

    It is what the model's `compute_loss` returns: the compiled losses with their weights, the
    losses of `add_loss` and of activity regularizers, or what a model's own `compute_loss` adds.
    Regularizers of weights do not depend on the data, and at the end of a training their gradient
    cancels that of the data. `values` are {variable path: tensor} in the place of the model's
    variables, and the outputs are divided by the temperature.
    """
    inputs, labels, weights = batch
    mapping = [(variable, values[variable.path]) for variable in model.variables]

    def scaled(output: Tensor) -> Tensor:
        if "float" not in keras.backend.standardize_dtype(output.dtype):
            return output
        logits = _in_full_precision(output)
        logits = logits / keras.ops.cast(temperature, logits.dtype)
        return keras_private.with_notes_of(output, logits, temperature)

    with (
        _unsynchronised(model),
        keras_private.with_attribute(model.trainable_variables, "regularizer", None),
        keras.StatelessScope(state_mapping=mapping, collect_losses=True),
    ):
        outputs = keras_private.forward(model, inputs, training=training)
        outputs = keras.tree.map_structure(lambda o: o if o is None else scaled(o), outputs)
        return keras_private.compute_loss(model, inputs, labels, outputs, weights, training)


def _dot(some: Kernels, other: Kernels) -> Tensor:
    return sum(keras.ops.sum(a * b) for a, b in zip(some, other, strict=True))


class Gradients:
    """Computes gradients and Hessian products of a mean loss, for criteria.

    The sums over the examples of all batches are exact, except where a batch is normalised by
    itself. The loss is as `loss_of_fit`, the mean over the examples of a batch.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: list[Batch],
        *,
        loss: Callable[..., Any] = loss_of_class_numbers,
    ):
        self.model, self.batches, self.loss = model, batches, loss
        self._gradients = {training: self._traced_gradients(training) for training in (False, True)}
        self._products = {training: self._traced_products(training) for training in (False, True)}

    def mean(self, weights: Weights, masks: Masks, *, training: bool) -> Weights:
        """Return {kernel path: gradient of the mean loss}, zero where masked.

        `training` says whether BatchNorm takes the statistics of the batch.
        """
        return self._total(self._gradients[training], weights, masks, 1.0)

    def hessian_product(self, weights: Weights, masks: Masks, *, training: bool = True) -> Weights:
        """Return {kernel path: H g} (Wang et al. 2020, section 4, with TEMPERATURE).

        `training` says whether BatchNorm takes the statistics of the batch.
        """
        gradients = self._total(self._gradients[training], weights, masks, TEMPERATURE)
        fixed = list(map(keras.ops.convert_to_tensor, gradients.values()))
        return self._total(self._products[training], weights, masks, TEMPERATURE, fixed)

    def _total(
        self, function: Callable, weights: Weights, masks: Masks, temperature: float, *more: Any
    ) -> Weights:
        kernels, others = values_of(self.model, weights, masks)
        sizes = [examples_of(batch) for batch in self.batches]
        totals = {path: np.zeros(m.shape) for path, m in masks.items()}
        for batch, size in zip(self.batches, sizes, strict=True):
            batch = keras.tree.map_structure(_tensor, batch)
            divisor = keras.ops.convert_to_tensor(temperature, "float32")
            parts = function(kernels, others, batch, divisor, *more)
            for path, part in zip(masks, parts, strict=True):
                array = keras.ops.convert_to_numpy(part).astype(np.float64)
                totals[path] += array * (size / sum(sizes))
        return {path: total.astype(weights[path].dtype) for path, total in totals.items()}

    def _traced_gradients(self, training: bool) -> Callable[..., Kernels]:
        def of_batch(
            kernels: Kernels, others: Others, batch: Batch, temperature: Tensor
        ) -> Kernels:
            return self._gradients_of_batch(kernels, others, batch, temperature, training)

        return autodiff.traced(of_batch)

    def _gradients_of_batch(
        self, kernels: Kernels, others: Others, batch: Batch, temperature: Tensor, training: bool
    ) -> Kernels:
        def loss(at: Kernels) -> Tensor:
            values = dict(zip(network.kernels(self.model), at, strict=True)) | others
            return self.loss(self.model, values, batch, temperature, training)

        return autodiff.derivatives(loss, kernels)

    def _traced_products(self, training: bool) -> Callable[..., Kernels]:
        def of_batch(
            kernels: Kernels, others: Others, batch: Batch, temperature: Any, gradients: Kernels
        ) -> Kernels:
            def dot(at: Kernels) -> Tensor:
                own = self._gradients_of_batch(at, others, batch, temperature, training)
                return _dot(own, gradients)

            with autodiff.twice():
                return autodiff.derivatives(dot, kernels)

        return autodiff.traced(of_batch)


class Hessian:
    """Computes products with the Hessian of the mean cross-entropy of a sample, at inference.

    The Hessian is that of the trainable weights that survive: kernels under their masks, biases,
    scales and offsets. BatchNorm takes its running statistics.

    Args:
        model: a built keras.Model with masked layers, inputs -> logits; it does not change.
        inputs: (examples, …), as the model takes them.
        labels: (examples,) class numbers.
        batch_size: examples at once; the sum over all is exact.
    """

    def __init__(self, model: keras.Model, inputs: Any, labels: Any, *, batch_size: int = 500):
        self.model, self.batches = model, in_batches(inputs, labels, size=batch_size)
        self.paths = [variable.path for variable in model.trainable_variables]
        self._product = autodiff.traced(self._product_of_batch)

    def at(self, weights: Weights, masks: Masks) -> "LinearOperator":
        """Return the Hessian at some weights, (surviving, surviving), in the order of the model."""
        kernels, values = values_of(self.model, weights, masks)
        values |= dict(zip(masks, kernels, strict=True))
        point = [values.pop(path) for path in self.paths]
        shapes = {path: value.shape for path, value in zip(self.paths, point, strict=True)}
        masked = [masks.get(path, np.ones(shape, bool)) for path, shape in shapes.items()]
        alive = np.concatenate([mask.ravel() for mask in masked])
        ends = np.cumsum([mask.size for mask in masked])
        sizes = [examples_of(batch) for batch in self.batches]

        def multiply(vector: Array) -> Array:
            flat, total = np.zeros((2, alive.size))
            flat[alive] = vector.ravel()
            parts = [
                keras.ops.convert_to_tensor(part.reshape(value.shape), value.dtype)
                for part, value in zip(np.split(flat, ends[:-1]), point, strict=True)
            ]
            for (inputs, labels, _), size in zip(self.batches, sizes, strict=True):
                given = map(keras.ops.convert_to_tensor, (inputs, labels))
                product = self._product(point, values, parts, *given)
                array = keras.ops.convert_to_numpy(product).astype(np.float64)
                total += array * (size / sum(sizes))
            return total[alive]

        from scipy.sparse.linalg import LinearOperator  # of an extra

        count = int(alive.sum())
        return LinearOperator((count, count), matvec=multiply, dtype=np.float64)

    def _product_of_batch(
        self, point: Kernels, values: Others, parts: Kernels, inputs: Tensor, labels: Tensor
    ) -> Tensor:
        """Return H v as one vector: the gradient of the product of the gradient and v."""

        def loss(at: Kernels) -> Tensor:
            known = values | dict(zip(self.paths, at, strict=True))
            return cross_entropy(labels, call_with(self.model, known, inputs, training=False))

        with autodiff.twice():
            products = autodiff.derivatives(
                lambda at: _dot(autodiff.derivatives(loss, at), parts), point
            )
        return keras.ops.concatenate([keras.ops.reshape(one, [-1]) for one in products])


def _tensor(array: Any) -> Any:
    return array if array is None else keras.ops.convert_to_tensor(array)


class Flow:
    """Computes the synaptic flow (Tanaka et al. 2020): R, the sum of outputs for an input of ones.

    Args:
        model: a built keras.Model of masked layers that compute in float64; of BatchNorm the
            running statistics as they begin.

    Raises:
        InputError: it has several inputs or outputs, or an input whose size varies.
    """

    def __init__(self, model: keras.Model):
        inputs, outputs = (list(getattr(model, of, None) or []) for of in ("inputs", "outputs"))
        if not len(inputs) == len(outputs) == 1 or None in inputs[0].shape[1:]:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs) or "nothing known"
            raise InputError(
                "criterion: synflow expects a model of one input, whose size is known, and one "
                f"output. {model.name} has {len(outputs)} outputs and takes {shapes}. Use another "
                "criterion."
            )
        self.model = model
        # Paths are those of the run's network; its statistics are those of a network just built.
        self.built = network.get_weights(model)
        self._derive = autodiff.traced(self._derivatives)

    def of(self, weights: Weights, masks: Masks) -> Weights:
        """Return {kernel path: dR / d|w|}, float64, at the absolute values of trainable weights."""
        trainable = {variable.path for variable in self.model.trainable_variables}
        values = {
            path: np.abs(weights[path]) if path in trainable else array
            for path, array in self.built.items()
        }
        with autodiff.with_float64():
            found = self._derive(*values_of(self.model, values, masks))
            arrays = list(map(keras.ops.convert_to_numpy, found))
        return dict(zip(masks, arrays, strict=True))

    def _derivatives(self, kernels: Kernels, others: Others) -> Kernels:
        dtype = keras.backend.standardize_dtype(kernels[0].dtype)
        ones = keras.ops.ones((1, *self.model.input_shape[1:]), dtype)

        def flow(at: Kernels) -> Tensor:
            values = dict(zip(network.kernels(self.model), at, strict=True)) | others
            return keras.ops.sum(call_with(self.model, values, ones, training=False))

        return autodiff.derivatives(flow, kernels)


def values_of(model: keras.Model, weights: Weights, masks: Masks) -> tuple[Kernels, Others]:
    """Return ([kernel], {variable path: tensor} of all other variables, masks among them)."""
    kernels = network.kernels(model)
    types = {v.path: keras.backend.standardize_dtype(v.dtype) for v in model.variables}
    others: dict[str, Array] = {kernels[path].mask.path: mask for path, mask in masks.items()}
    for variable in model.variables:
        if variable.path not in kernels and variable.path not in others:
            # Dropout's state is no part of a round; a fixed one gives the same masks each time.
            fixed = np.zeros(variable.shape, np.uint32)
            others[variable.path] = weights.get(variable.path, fixed)

    def tensor(array: Array, path: str) -> Tensor:
        return keras.ops.convert_to_tensor(array, types[path])

    tensors = [tensor(weights[path], path) for path in masks]
    return tensors, {path: tensor(array, path) for path, array in others.items()}


def call_with(model: keras.Model, values: dict[str, Any], inputs: Any, *, training: bool) -> Tensor:
    """Return the logits of a model whose variables have other values, {path: tensor}."""
    with _unsynchronised(model):
        logits, _ = model.stateless_call(
            [values[variable.path] for variable in model.trainable_variables],
            [values[variable.path] for variable in model.non_trainable_variables],
            inputs,
            training=training,
        )
    return _in_full_precision(logits)


def _in_full_precision(logits: Tensor) -> Tensor:
    is_double = keras.backend.standardize_dtype(logits.dtype) == "float64"
    return keras.ops.cast(logits, "float64" if is_double else "float32")


def _unsynchronised(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """Return a context in which BatchNorm takes the statistics of this process's batch alone."""
    norms = [
        layer
        for layer in keras_private.flatten_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    return keras_private.with_attribute(norms, "synchronized", False)


def in_float64(model: keras.Model) -> keras.Model:
    """Return a copy of a model that computes in float64; its weights are new.

    Raises:
        InputError: Keras cannot rebuild it.
    """

    def change(config: dict[str, Any]) -> dict[str, Any]:
        return config | {"dtype": "float64"} if "dtype" in config else config

    try:
        with autodiff.with_float64():
            return copying.rebuild(
                model,  # of layers inside a layer, as cells in a wrapper, too
                lambda config: layers.changed_config(config, change) | {"dtype": "float64"},
                same_class=False,
            )
    except InputError as error:
        raise InputError(
            f"criterion: synflow computes in float64, but {model.name} cannot be rebuilt so: "
            f"{error} Use another criterion, or a functional model."
        ) from error
