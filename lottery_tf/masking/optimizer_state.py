"""Sets an optimizer back to how it began."""

import keras
import numpy as np

from lottery_tf.method import Masks


def first_values(optimizer: keras.optimizers.Optimizer) -> dict[int, np.ndarray]:
    """{index: value} of those variables of a new, built optimizer that do not begin at zero.

    As the learning rate, the scale of a float16 loss, and the accumulators of Adagrad.
    """
    values = {index: variable.numpy() for index, variable in enumerate(optimizer.variables)}
    return {index: value for index, value in values.items() if np.any(value)}


def reset(optimizer: keras.optimizers.Optimizer, first: dict[int, np.ndarray]) -> None:
    """Sets every variable of an optimizer to its first value, or zero: slots, iterations, rate."""
    for index, variable in enumerate(optimizer.variables):
        value = first.get(index)
        zeros = np.zeros(variable.shape, keras.backend.standardize_dtype(variable.dtype))
        variable.assign(zeros if value is None else value)


def clear_pruned(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable], masks: Masks
) -> None:
    """Sets the slots of pruned weights to zero, as momenta and second moments.

    Args:
        optimizer: a built optimizer.
        variables: those that it was built with.
        masks: {kernel path: bool array}.
    """
    # Keras names a slot after its variable: <path with _ for />_<slot>.
    prefixes = {v.path.replace("/", "_") + "_": v.path for v in variables}
    for slot in optimizer.variables:
        owners = [prefix for prefix in prefixes if slot.name.startswith(prefix)]
        mask = masks.get(prefixes[max(owners, key=len)]) if owners else None
        if mask is not None and slot.shape == mask.shape:
            slot.assign(np.where(mask, slot.numpy(), 0))
