"""Gradients, Hessian products and the flow of a masked network, for criteria. Imports TensorFlow.

They are computed as functions of weights that are passed in: the network does not change.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private, network
from lottery_tf.method import Array, Masks, Weights

TEMPERATURE = 200.0  # Wang et al. 2020 divide the logits by it


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The mean cross-entropy of class numbers."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


class Gradients:
    """Gradients and Hessian products of a mean loss.

    Args:
        model: a built keras.Model with masked layers, inputs -> logits.
        inputs: (examples, …), as the model takes them.
        labels: (examples, …).
        loss: of (labels, logits), the mean over examples.
        batch_size: examples at once; the sums over all are exact, but where a batch is normalised
            by itself.
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        labels: Any,
        *,
        loss: Callable[[Any, Any], Any] = cross_entropy,
        batch_size: int = 500,
    ):
        self.model, self.inputs, self.labels, self.loss = model, inputs, labels, loss
        self.batch_size = batch_size
        self._gradients = tf.function(self._gradients_of_batch)
        self._products = tf.function(self._products_of_batch)

    def mean(self, weights: Weights, masks: Masks, *, training: bool) -> Weights:
        """{kernel path: gradient of the mean loss}, zero where masked.

        Args:
            weights: {variable path: array}.
            masks: {kernel path: bool array}.
            training: whether BatchNorm takes the statistics of the batch.
        """
        gradient = functools.partial(self._gradients, training=training)
        return self._total(gradient, weights, masks, 1.0)

    def hessian(self, weights: Weights, masks: Masks) -> Weights:
        """{kernel path: H g}, of logits divided by TEMPERATURE (Wang et al. 2020, section 4)."""
        gradient = functools.partial(self._gradients, training=True)
        gradients = self._total(gradient, weights, masks, TEMPERATURE)
        fixed = [tf.constant(array) for array in gradients.values()]
        product = functools.partial(self._products, gradients=fixed)
        return self._total(product, weights, masks, TEMPERATURE)

    def _total(self, function, weights, masks, temperature):
        kernels, others = values_of(self.model, weights, masks)
        examples, totals = len(self.labels), {path: np.zeros(m.shape) for path, m in masks.items()}
        for first in range(0, examples, self.batch_size):
            rows = slice(first, first + self.batch_size)
            inputs, labels = self.inputs[rows], self.labels[rows]
            parts = function(kernels, others, inputs, labels, temperature=tf.constant(temperature))
            for path, part in zip(masks, parts, strict=True):
                totals[path] += part.numpy().astype(np.float64) * (len(labels) / examples)
        return {path: total.astype(weights[path].dtype) for path, total in totals.items()}

    def _gradients_of_batch(self, kernels, others, inputs, labels, temperature, training):
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            logits = _call(self.model, kernels, others, inputs, training=training)
            loss = self.loss(labels, logits / tf.cast(temperature, logits.dtype))
        return tape.gradient(loss, kernels, unconnected_gradients="zero")

    def _products_of_batch(self, kernels, others, inputs, labels, temperature, gradients):
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            own = self._gradients_of_batch(kernels, others, inputs, labels, temperature, True)
            dots = [tf.reduce_sum(a * b) for a, b in zip(own, gradients, strict=True)]
            dot = tf.add_n(dots)
        return tape.gradient(dot, kernels, unconnected_gradients="zero")


class Flow:
    """The synaptic flow (Tanaka et al. 2020): R, the sum of the outputs for an input of ones.

    Args:
        model: a built keras.Model of masked layers that compute in float64; of BatchNorm the
            running statistics as they begin.

    Raises:
        InputError: it has several inputs or outputs, or an input whose size varies.
    """

    def __init__(self, model: Any):
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
        self._derive = tf.function(self._derivatives)

    def of(self, weights: Weights, masks: Masks) -> Weights:
        """{kernel path: dR / d|w|}, float64, at the absolute values of the trainable weights."""
        trainable = {variable.path for variable in self.model.trainable_variables}
        values = {
            path: np.abs(weights[path]) if path in trainable else array
            for path, array in self.built.items()
        }
        kernels, others = values_of(self.model, values, masks)
        return {
            path: derivative.numpy()
            for path, derivative in zip(masks, self._derive(kernels, others), strict=True)
        }

    def _derivatives(self, kernels, others):
        ones = tf.ones((1, *self.model.input_shape[1:]), kernels[0].dtype)
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            outputs = _call(self.model, kernels, others, ones, training=False)
            flow = tf.reduce_sum(outputs)
        return tape.gradient(flow, kernels, unconnected_gradients="zero")


def values_of(model: Any, weights: Weights, masks: Masks) -> tuple[list, dict[str, Any]]:
    """([kernel], {variable path: tensor} of all other variables, masks among them)."""
    held = network.kernels(model)
    types = {v.path: keras.backend.standardize_dtype(v.dtype) for v in model.variables}
    others: dict[str, Array] = {held[path].mask.path: mask for path, mask in masks.items()}
    for variable in model.variables:
        if variable.path not in held and variable.path not in others:
            # Dropout's state is no part of a round; a fixed one gives the same masks each time.
            fixed = np.zeros(variable.shape, np.uint32)
            others[variable.path] = weights.get(variable.path, fixed)
    kernels = [tf.constant(weights[path], types[path]) for path in masks]
    return kernels, {path: tf.constant(array, types[path]) for path, array in others.items()}


def _call(model, kernels, others, inputs, *, training):
    values = dict(zip(network.kernels(model), kernels, strict=True)) | others
    return call_with(model, values, inputs, training=training)


def call_with(model: Any, values: dict[str, Any], inputs: Any, *, training: bool) -> tf.Tensor:
    """The logits of a model whose variables have other values, {path: tensor}."""
    with _unsynchronised(model):
        logits, _ = model.stateless_call(
            [values[variable.path] for variable in model.trainable_variables],
            [values[variable.path] for variable in model.non_trainable_variables],
            inputs,
            training=training,
        )
    return tf.cast(logits, tf.float64 if logits.dtype == tf.float64 else tf.float32)


@contextlib.contextmanager
def _unsynchronised(model):
    """While it is open, BatchNorm looks at the batch of this process alone."""
    norms = [
        layer
        for layer in keras_private.flatten_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized
    ]
    for layer in norms:
        layer.synchronized = False
    try:
        yield
    finally:
        for layer in norms:
            layer.synchronized = True


def in_float64(model: Any) -> Any:
    """A copy of a functional or sequential model that computes in float64; its weights are new.

    Raises:
        InputError: Keras cannot rebuild it.
    """

    def rebuild(layer):
        return type(layer).from_config(_with_float64(layer.get_config()) | {"dtype": "float64"})

    try:
        with keras_private.uncompiled(model):
            return keras.models.clone_model(model, clone_function=rebuild, recursive=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"criterion: synflow computes in float64, but {model.name} cannot be rebuilt so: "
            f"{error} Use another criterion, or a functional model."
        ) from error


def _with_float64(config):
    """A configuration in which layers inside a layer, as cells in a wrapper, are float64, too."""
    if isinstance(config, list | tuple):
        return type(config)(map(_with_float64, config))
    if not isinstance(config, dict):
        return config
    return {
        name: "float64" if name == "dtype" else _with_float64(value)
        for name, value in config.items()
    }
