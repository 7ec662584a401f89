"""Builds the ResNets of He et al. 2016 for CIFAR: depth 6 n + 2, three stages of n blocks."""

import functools

import keras

from lottery_tf.models import layers

WIDTHS = (16, 32, 64)


def build(
    depth: int,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    initializer: str,
    shortcut: str,
    bn_affine: bool,
) -> keras.Model:
    """Build a ResNet of three stages: (batch, h, w, c) to (batch, classes) logits.

    Args:
        depth: 6 n + 2.
        initializer: a key of models.INITIALIZERS.
        shortcut: "identity" (option A) or "projection" (option B) where shapes change.
        bn_affine: whether BatchNorm learns a scale and an offset.
    """
    make = layers.Builder(initializer, bn_affine=bn_affine)
    image = keras.Input(input_shape, name="image")
    features = make.conv_norm_relu(image, WIDTHS[0], 3, "stem")
    for stage, filters in enumerate(WIDTHS, 1):
        for block in range(1, (depth - 2) // 6 + 1):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            around = layers.shortcut(make, features, filters, strides, name, shortcut)
            features = make.conv_norm_relu(features, filters, 3, f"{name}_conv1", strides=strides)
            features = make.conv(features, filters, 3, f"{name}_conv2")
            features = layers.residual(make.norm(features, f"{name}_conv2_bn"), around, name)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(image, make.dense(features, classes, "logits"), name=f"resnet{depth}")


resnet20, resnet32, resnet44, resnet56, resnet110 = (
    functools.partial(build, depth) for depth in (20, 32, 44, 56, 110)
)
