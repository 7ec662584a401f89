"""Masks beside the kernels of Keras layers, and the weights and masks of a network."""

from lottery_tf.masking.inside import (
    MaskedGroupQueryAttention,
    MaskedInside,
    MaskedMultiHeadAttention,
    mask_inside,
)
from lottery_tf.masking.layers import (
    MASKED,
    MaskedConv1D,
    MaskedConv1DTranspose,
    MaskedConv2D,
    MaskedConv2DTranspose,
    MaskedConv3D,
    MaskedConv3DTranspose,
    MaskedDense,
    MaskedDepthwiseConv1D,
    MaskedDepthwiseConv2D,
    MaskedEinsumDense,
    MaskedSeparableConv1D,
    MaskedSeparableConv2D,
    masked_layer,
)
from lottery_tf.masking.masks import KeepMasked, Kernel, Masked, check_masked
from lottery_tf.masking.model import left_dense, masked
from lottery_tf.masking.network import (
    apply_masks,
    get_masks,
    get_weights,
    kernels,
    set_weights,
    transposed_kernels,
    variables,
)
from lottery_tf.masking.plain import unmasked

__all__ = [
    "MASKED",
    "KeepMasked",
    "Kernel",
    "Masked",
    "MaskedConv1D",
    "MaskedConv1DTranspose",
    "MaskedConv2D",
    "MaskedConv2DTranspose",
    "MaskedConv3D",
    "MaskedConv3DTranspose",
    "MaskedDense",
    "MaskedDepthwiseConv1D",
    "MaskedDepthwiseConv2D",
    "MaskedEinsumDense",
    "MaskedGroupQueryAttention",
    "MaskedInside",
    "MaskedMultiHeadAttention",
    "MaskedSeparableConv1D",
    "MaskedSeparableConv2D",
    "apply_masks",
    "check_masked",
    "get_masks",
    "get_weights",
    "kernels",
    "left_dense",
    "mask_inside",
    "masked",
    "masked_layer",
    "set_weights",
    "transposed_kernels",
    "unmasked",
    "variables",
]
