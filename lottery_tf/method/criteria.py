"""By which score weights are pruned. NumPy only.

A criterion is a function of the evidence that its parameters name, for one kernel, each an array of
its shape; it gives the scores, and the lowest are pruned:

    trained  the weights at the end of the round
    initial  the weights that the round started from
"""

import inspect
from collections.abc import Callable, Mapping

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.method import Array, Masks, Weights


def magnitude(trained: Array) -> Array:
    """|w_T| in float32 (Frankle & Carbin 2019)."""
    return np.abs(trained.astype(np.float32, copy=False))


CRITERIA: dict[str, Callable[..., Array]] = {"magnitude": magnitude}


def scores(
    criterion: str, evidence: Mapping[str, Callable[[], Weights]], masks: Masks
) -> dict[str, Array]:
    """The score of every prunable weight.

    Args:
        criterion: a key of CRITERIA.
        evidence: {name: a function that gives {path: array}}; what the criterion does not name is
            not gathered.
        masks: {kernel path: bool array}.

    Returns:
        {kernel path: array of the kernel's shape}.

    Raises:
        InputError: an unknown criterion, or a weight that is not finite.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion: expected one of {list(CRITERIA)}. Received: {criterion}")
    function = CRITERIA[criterion]
    gathered = {name: evidence[name]() for name in inspect.signature(function).parameters}
    found = {}
    for path in masks:
        arrays = {name: arrays[path] for name, arrays in gathered.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise InputError(f"Cannot prune {path}: it holds a weight that is not finite.")
        found[path] = function(**arrays)
    return found
