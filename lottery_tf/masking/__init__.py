"""Masks beside the kernels of Keras layers, and the weights and masks of a network."""

import importlib.metadata

from lottery_tf.errors import InputError

try:
    from lottery_tf.masking.layers import (
        MASKED,
        Masked,
        MaskedConv1D,
        MaskedConv1DTranspose,
        MaskedConv2D,
        MaskedConv2DTranspose,
        MaskedConv3D,
        MaskedConv3DTranspose,
        MaskedConvLSTM1D,
        MaskedConvLSTM2D,
        MaskedConvLSTM3D,
        MaskedDense,
        MaskedDepthwiseConv1D,
        MaskedDepthwiseConv2D,
        MaskedEinsumDense,
        MaskedEmbedding,
        MaskedGroupQueryAttention,
        MaskedGRU,
        MaskedGRUCell,
        MaskedInside,
        MaskedLSTM,
        MaskedLSTMCell,
        MaskedMultiHeadAttention,
        MaskedReversibleEmbedding,
        MaskedSeparableConv1D,
        MaskedSeparableConv2D,
        MaskedSimpleRNN,
        MaskedSimpleRNNCell,
        mask_inside,
        masked_layer,
    )
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
    "MASKED",
    "KeepMasked",
    "Kernel",
    "Mask",
    "Masked",
    "MaskedConv1D",
    "MaskedConv1DTranspose",
    "MaskedConv2D",
    "MaskedConv2DTranspose",
    "MaskedConv3D",
    "MaskedConv3DTranspose",
    "MaskedConvLSTM1D",
    "MaskedConvLSTM2D",
    "MaskedConvLSTM3D",
    "MaskedDense",
    "MaskedDepthwiseConv1D",
    "MaskedDepthwiseConv2D",
    "MaskedEinsumDense",
    "MaskedEmbedding",
    "MaskedGRU",
    "MaskedGRUCell",
    "MaskedGroupQueryAttention",
    "MaskedInside",
    "MaskedLSTM",
    "MaskedLSTMCell",
    "MaskedMultiHeadAttention",
    "MaskedReversibleEmbedding",
    "MaskedSeparableConv1D",
    "MaskedSeparableConv2D",
    "MaskedSimpleRNN",
    "MaskedSimpleRNNCell",
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
    "mask_inside",
    "masked",
    "masked_layer",
    "set_weights",
    "unmask",
    "unmasked",
    "variables",
]
