"""Derivatives by TensorFlow; `masking.gradients` says what a module like this one has."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lottery_tf.masking import keras_private

LACKING = r"gradient registry has no entry|[Nn]o gradient defined for"


def traced(function: Callable) -> Callable:
    """Compile a function of tensors; tensors of other shapes trace it anew.

    TensorFlow counts how often functions of the same code are traced, and warns from the fifth time
    on. Here each pruning needs a trace of its own, as the model, its loss or its frozen layers may
    have changed since the last one. A trace that is asked for by name is not counted.
    """
    compiled = tf.function(function, autograph=False)  # as the step of `fit`

    def call(*arguments: Any) -> Any:
        return compiled.get_concrete_function(*arguments)(*arguments)

    return call


def derivatives(function: Callable[[list], Any], at: list) -> list:
    """Return the derivatives of a number by each tensor, zero where it does not depend on it."""
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = function(at)
    found = tape.gradient(value, at, unconnected_gradients="zero")
    return list(map(tf.convert_to_tensor, found))  # those of tables are sparse


def twice() -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is traced has right second derivatives.

    tf.nn.moments, which the normalising layers of Keras call, holds the mean fixed inside the
    variance. That leaves first derivatives as they are, and makes second ones wrong.
    """
    return keras_private.with_attribute([tf.nn], "moments", _moments)


def _moments(
    x: tf.Tensor, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return what tf.nn.moments does, of values of full precision: (mean, variance)."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance


def with_float64() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which float64 is what its name says: here it always is."""
    return contextlib.nullcontext()
