"""Derivatives by TensorFlow; `masking.gradients` says what a module like this one has."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

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


def with_float64() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which float64 is what its name says: here it always is."""
    return contextlib.nullcontext()
