"""Makes the layers of the networks: padded and normalised as in PyTorch, in NHWC."""

from typing import Any

import keras
from keras import KerasTensor as Tensor

from lottery_tf.masking import MaskedConv2D, MaskedDense
from lottery_tf.models import INITIALIZERS
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.structure import steps


class Builder:
    """Applies layers with one of models.INITIALIZERS, and BatchNorm that is affine or not."""

    def __init__(self, initializer: str, *, bn_affine: bool | None = None):
        self.initializer, self.bn_affine = initializer, bn_affine

    def _kernel(self) -> keras.Initializer:
        return keras.initializers.VarianceScaling(**INITIALIZERS[self.initializer])

    def conv(
        self,
        features: Tensor,
        filters: int,
        size: int,
        name: str,
        *,
        strides: int = 1,
        bias: bool = False,
        activation: str | None = None,
    ) -> Tensor:
        """Apply a convolution that keeps the size, or divides it by strides.

        Strided ones are padded alike on both sides, as in PyTorch: "same" pads only the far side
        then, which shifts the output half a pixel against a shortcut that takes every other pixel.
        """
        padding = "same" if strides == 1 else "valid"
        if strides > 1 and size > 1:
            features = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(features)
        return MaskedConv2D(
            filters,
            size,
            strides=strides,
            padding=padding,
            use_bias=bias,
            activation=activation,
            kernel_initializer=self._kernel(),
            name=name,
        )(features)

    def norm(self, features: Tensor, name: str) -> Tensor:
        """Apply BatchNorm with PyTorch's constants."""
        return FusedBatchNormalization(
            momentum=0.9, epsilon=1e-5, center=self.bn_affine, scale=self.bn_affine, name=name
        )(features)

    def conv_norm_relu(
        self, features: Tensor, filters: int, size: int, name: str, **options: Any
    ) -> Tensor:
        """Apply a convolution without bias, BatchNorm and ReLU; `options` are those of `conv`."""
        features = self.norm(self.conv(features, filters, size, name, **options), f"{name}_bn")
        return keras.layers.ReLU(name=f"{name}_relu")(features)

    def dense(
        self, features: Tensor, units: int, name: str, activation: str | None = None
    ) -> Tensor:
        """Apply a dense layer with bias."""
        return MaskedDense(
            units, activation=activation, kernel_initializer=self._kernel(), name=name
        )(features)


@keras.saving.register_keras_serializable(package="lottery_tf")
class PadChannels(keras.layers.Layer):
    """Adds channels of zeros up to `channels`: the weightless shortcut (option A)."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, features: Tensor) -> Tensor:
        added = self.channels - features.shape[-1]
        return keras.ops.pad(features, [(0, 0), (0, 0), (0, 0), (0, added)])

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"channels": self.channels}


steps.STEPS[PadChannels] = steps.PaddedChannels
