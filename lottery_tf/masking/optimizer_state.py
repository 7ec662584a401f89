"""Sets an optimizer back to how it began."""

import keras
import numpy as np


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
