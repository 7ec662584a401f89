"""Masks beside the kernels of Keras layers, and the weights and masks of a network."""

import importlib.metadata

from lottery_tf.errors import InputError

try:
    from lottery_tf.masking import layers
    from lottery_tf.masking.layers import *  # noqa: F403 (as its __all__ lists them)
    from lottery_tf.masking.mask_variable import KeepMasked, Kernel, Mask, check_masked
    from lottery_tf.masking.model import left_dense, mask, masked, unmask, unmasked
    from lottery_tf.masking.network import (
        apply_masks,
        compile_with_masks,
        get_masks,
        get_weights,
        holding,
        kernel_kinds,
        kernels,
        set_weights,
        variables,
    )
except (AttributeError, ImportError) as error:
    # All uses of Keras's private names are in this package: another Keras may lack one.
    lacking = getattr(getattr(error, "obj", None), "__name__", "") or getattr(error, "name", "")
    if not str(lacking).startswith("keras."):
        raise
    raise InputError(
        f"keras {importlib.metadata.version('keras')} lacks what this package needs: {error}. "
        "Install another version of keras, or of this package."
    ) from error

__all__ = [
    *layers.__all__,
    "KeepMasked",
    "Kernel",
    "Mask",
    "apply_masks",
    "check_masked",
    "compile_with_masks",
    "get_masks",
    "get_weights",
    "holding",
    "kernel_kinds",
    "kernels",
    "left_dense",
    "mask",
    "masked",
    "set_weights",
    "unmask",
    "unmasked",
    "variables",
]
