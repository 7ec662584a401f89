"""Derivatives by PyTorch; `masking.gradients` says what a module like this one has."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

LACKING = r"derivative .*not implemented|differentiate twice"


def traced(function: Callable) -> Callable:
    """Return a function as it is: PyTorch needs no trace, as the step of `fit`."""
    return function


def derivatives(function: Callable[[list], Any], at: list) -> list:
    """Return the derivatives of a number by each tensor, zero where it does not depend on it."""
    inside = any(tensor.requires_grad for tensor in at)  # of the derivatives of another function
    with torch.enable_grad():
        if not inside:
            at = [tensor.detach().requires_grad_() for tensor in at]
        value = function(at)
        if not value.requires_grad:
            return list(map(torch.zeros_like, at))
        found = torch.autograd.grad(value, at, create_graph=inside, allow_unused=True)
    pairs = zip(found, at, strict=True)
    return [torch.zeros_like(tensor) if one is None else one for one, tensor in pairs]


def twice() -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is traced has right second derivatives: here it always has."""
    return contextlib.nullcontext()


def with_float64() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which float64 is what its name says: here it always is."""
    return contextlib.nullcontext()
