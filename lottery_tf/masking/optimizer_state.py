"""Sets an optimizer back to how it began."""

from collections import Counter

import keras
import numpy as np

from lottery_tf.masking import keras_private, network
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
    """Sets the slots of pruned weights to zero: momenta, second moments, averages of weights.

    Args:
        optimizer: a built optimizer.
        variables: those that it was built with.
        masks: {kernel path: bool array}.
    """
    # Keras names a slot after its variable: <path with _ for />_<slot>. Variables that had one
    # path have slots of one name, in their order.
    owners: dict[str, list[str]] = {}
    for variable in variables:
        for path in {variable.path, keras_private.first_path(variable)}:
            owners.setdefault(path.replace("/", "_") + "_", []).append(variable.path)
    seen: Counter[str] = Counter()
    for slot in optimizer.variables:
        prefixes = [prefix for prefix in owners if slot.name.startswith(prefix)]
        if not prefixes:
            continue
        paths = owners[max(prefixes, key=len)]
        mask = masks.get(paths[seen[slot.name] % len(paths)])
        seen[slot.name] += 1
        if mask is not None and slot.shape == mask.shape:
            slot.assign(np.where(mask, slot.numpy(), 0))


def forget_pruned(model: keras.Model) -> None:
    """Clears what the optimizer of a model, if it has one that is built, keeps of pruned weights.

    Without it, averages of weights (`use_ema`) and momenta would still hold them.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        clear_pruned(optimizer, model.trainable_variables, network.get_masks(model))
