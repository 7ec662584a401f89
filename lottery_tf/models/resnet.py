"""Builds the ResNets of He et al. 2016: for CIFAR, and for ImageNet with strided 3 x 3 (v1.5)."""

import functools

import keras
from keras import KerasTensor as Tensor

from lottery_tf.models.layers import Builder, PadChannels

# depth: (blocks of the stages, whether a block is a bottleneck)
CIFAR: dict[int, tuple[tuple[int, ...], bool]] = {
    6 * n + 2: ((n, n, n), False) for n in (3, 5, 7, 9, 18)
}
IMAGENET: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}


def build(
    depth: int,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    initializer: str,
    shortcut: str,
    bn_affine: bool,
) -> keras.Model:
    """Build a ResNet: (batch, h, w, c) to (batch, classes) logits.

    Where shapes change, `shortcut` is "identity" (option A) or "projection" (option B).
    """
    make = Builder(initializer, bn_affine=bn_affine)
    image = keras.Input(input_shape, name="image")
    blocks, bottleneck = (CIFAR | IMAGENET)[depth]
    if depth in CIFAR:
        first_width, last_norm = 16, "conv2_bn"
        features = make.conv_norm_relu(image, first_width, 3, "stem")
    else:
        first_width, last_norm = 64, "last_bn"
        features = make.conv_norm_relu(image, first_width, 7, "stem", strides=2)
        # After a ReLU, zeros around the image never win the maximum.
        features = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(features)
        features = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(features)
    for stage, count in enumerate(blocks):
        width = first_width * 2**stage
        filters = 4 * width if bottleneck else width
        for block in range(count):
            name = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            around = shortcut_of(make, features, filters, strides, name, shortcut)
            if bottleneck:
                features = make.conv_norm_relu(features, width, 1, f"{name}_conv1")
                features = make.conv_norm_relu(features, width, 3, f"{name}_conv2", strides=strides)
                features = make.conv(features, filters, 1, f"{name}_conv3")
            else:
                features = make.conv_norm_relu(features, width, 3, f"{name}_conv1", strides=strides)
                features = make.conv(features, filters, 3, f"{name}_conv2")
            features = make.norm(features, f"{name}_{last_norm}")
            features = keras.layers.Add(name=f"{name}_add")([features, around])
            features = keras.layers.ReLU(name=f"{name}_relu")(features)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(image, make.dense(features, classes, "logits"), name=f"resnet{depth}")


def shortcut_of(
    make: Builder, features: Tensor, filters: int, strides: int, name: str, kind: str
) -> Tensor:
    """Return the way around a residual block: unchanged, or fitted to the block's output.

    `kind` is "identity", every other pixel and channels of zeros; or "projection", a 1 x 1
    convolution and BatchNorm.
    """
    if strides == 1 and features.shape[-1] == filters:
        return features
    if kind == "projection":
        projected = make.conv(features, filters, 1, f"{name}_shortcut", strides=strides)
        return make.norm(projected, f"{name}_shortcut_bn")
    taken = keras.layers.AveragePooling2D(1, strides, name=f"{name}_take")(features)
    return PadChannels(filters, name=f"{name}_pad_channels")(taken)


resnet20, resnet32, resnet44, resnet56, resnet110 = (
    functools.partial(build, depth) for depth in CIFAR
)
resnet18, resnet34, resnet50, resnet101 = (functools.partial(build, depth) for depth in IMAGENET)
