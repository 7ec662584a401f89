"""Derivatives by JAX; `masking.gradients` says what a module like this one has."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.experimental

LACKING = r"[Dd]ifferentiation (rule|does not work)|support JVP|\(jvp\)|Transpose rule"

traced: Callable[[Callable], Callable] = jax.jit


def derivatives(function: Callable[[list], Any], at: list) -> list:
    """Return the derivatives of a number by each tensor, zero where it does not depend on it."""
    return jax.grad(function)(at)


def twice() -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is traced has right second derivatives: here it always has."""
    return contextlib.nullcontext()


def with_float64() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which float64 is what its name says: elsewhere JAX makes it float32."""
    of = jax if hasattr(jax, "enable_x64") else jax.experimental  # as older versions have it
    return of.enable_x64(True)
