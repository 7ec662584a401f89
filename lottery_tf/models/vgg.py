"""Builds VGG for CIFAR as the second paper uses it: BatchNorm, one dense layer at the end."""

import functools

import keras

from lottery_tf.models.layers import Builder

WIDTHS = (64, 128, 256, 512, 512)
BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def build(
    depth: int, input_shape: tuple[int, ...], classes: int, *, initializer: str, bn_affine: bool
) -> keras.Model:
    """Build a VGG: (batch, h, w, c) to (batch, classes) logits.

    Its depth, 16 or 19, counts the dense layers of the original.
    """
    make = Builder(initializer, bn_affine=bn_affine)
    image = features = keras.Input(input_shape, name="image")
    for stage, (filters, count) in enumerate(zip(WIDTHS, BLOCKS[depth], strict=True), 1):
        if stage > 1:
            features = keras.layers.MaxPooling2D(name=f"pool{stage - 1}")(features)
        for layer in range(1, count + 1):
            features = make.conv_norm_relu(features, filters, 3, f"conv{stage}_{layer}")
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(image, make.dense(features, classes, "logits"), name=f"vgg{depth}")


vgg16, vgg19 = (functools.partial(build, depth) for depth in BLOCKS)
