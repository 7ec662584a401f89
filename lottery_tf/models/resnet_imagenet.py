"""Builds the ResNets of He et al. 2016 for ImageNet, strided in the 3 x 3 convolution (v1.5)."""

import functools

import keras

from lottery_tf.models import layers

# depth: (blocks of the four stages, whether a block is a bottleneck)
DEPTHS = {
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
    """Build a ResNet of four stages: (batch, h, w, c) to (batch, classes) logits.

    Args:
        depth: a key of DEPTHS.
        initializer: a key of models.INITIALIZERS.
        shortcut: "identity" or "projection" where shapes change.
        bn_affine: whether BatchNorm learns a scale and an offset.
    """
    blocks, bottleneck = DEPTHS[depth]
    make = layers.Builder(initializer, bn_affine=bn_affine)
    image = keras.Input(input_shape, name="image")
    features = make.conv_norm_relu(image, 64, 7, "stem", strides=2)
    # After a ReLU, zeros around the image never win the maximum.
    features = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(features)
    features = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(features)
    for stage, count in enumerate(blocks, 1):
        width = 32 * 2**stage
        filters = 4 * width if bottleneck else width
        for block in range(1, count + 1):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            around = layers.shortcut(make, features, filters, strides, name, shortcut)
            if bottleneck:
                features = make.conv_norm_relu(features, width, 1, f"{name}_conv1")
                features = make.conv_norm_relu(features, width, 3, f"{name}_conv2", strides=strides)
                last = make.conv(features, filters, 1, f"{name}_conv3")
            else:
                features = make.conv_norm_relu(features, width, 3, f"{name}_conv1", strides=strides)
                last = make.conv(features, filters, 3, f"{name}_conv2")
            features = layers.residual(make.norm(last, f"{name}_last_bn"), around, name)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(image, make.dense(features, classes, "logits"), name=f"resnet{depth}")


resnet18, resnet34, resnet50, resnet101 = (functools.partial(build, depth) for depth in DEPTHS)
