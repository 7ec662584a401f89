"""Checks whether masks hold in a layer: `check_masked_layer`, for tests of layers of your own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators
from lottery_tf.testing import checks
from lottery_tf.testing.case import EXAMPLES, Case

__all__ = ["OPTIMIZERS", "check_masked_layer"]

# What could revive pruned weights: momenta, decay of weights, averages of weights.
OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "momentum": lambda: keras.optimizers.SGD(0.01, 0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0),
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
}
POLICIES = ("mixed_float16", "mixed_bfloat16")


def check_masked_layer(
    layer_class: type,
    init_kwargs: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    input_data: Any = None,
    kernels: Iterable[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    optimizers: Mapping[str, Callable[[], keras.optimizers.Optimizer]] = OPTIMIZERS,
    policies: Iterable[str] = POLICIES,
) -> None:
    """Checks all that the masks of a layer promise, as Keras's `run_layer_test` checks a layer.

    A model of this layer alone is masked. Its outputs, gradients and updates are compared with the
    plain one's; it is saved, loaded, cloned and copied, and made plain again.

    Args:
        layer_class: a layer that `lottery_tf.masked` masks, or that holds such layers.
        init_kwargs: its arguments.
        input_shape: of an input, without examples: standard normal numbers are drawn.
        input_data: an array (examples, …), a list of them, or a dict {argument of the call: array}.
        kernels: the names of the variables that have masks; by default they are not compared.
        custom_objects: what Keras is given to load files, as classes that are not registered.
        optimizers: {name: a function that makes one}.
        policies: of mixed precision.

    Raises:
        AssertionError: a check fails; it says which, and what to do.
        InputError: the arguments do not fit.
    """
    if (input_shape is None) == (input_data is None):
        raise InputError(
            "check_masked_layer: expected either input_shape or input_data. Received: "
            f"{'neither' if input_data is None else 'both'}"
        )
    if input_shape is not None:
        shape = (EXAMPLES, *input_shape)
        input_data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    case = Case(layer_class, dict(init_kwargs or {}), input_data)
    with keras.saving.custom_object_scope(dict(custom_objects or {})), keras_generators.kept():
        checks.check_masks(case, kernels)
        for check in checks.OF_EVERY_LAYER:
            check(case)
        for name, make in optimizers.items():
            checks.check_optimizer(case, name, make)
        for policy in policies:
            checks.check_precision(case, policy)
