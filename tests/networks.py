"""Networks that `--model=tests.networks:…` names: a good one, and some wrong in their own ways."""

import math

import keras

from lottery_tf.models.normalization import FusedBatchNormalization
from tests.layers import LAYERS


def dropout(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.Dense(50, activation="relu")(keras.layers.Flatten()(image))
    features = keras.layers.Dropout(0.5)(features)
    return keras.Model(image, keras.layers.Dense(classes)(features))


def normalised(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.Conv2D(8, 3, name="conv")(image)
    features = keras.layers.BatchNormalization(momentum=0.5, name="bn")(features)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(features))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


def drawing(input_shape, classes):
    """Its weights are drawn by an operation of TensorFlow that has a state."""
    import tensorflow as tf

    from lottery_tf.masking import MaskedDense

    def draw(shape, dtype):
        return tf.random.normal(shape, dtype=dtype)

    image = keras.Input(input_shape)
    features = keras.layers.Flatten()(image)
    layer = MaskedDense(classes, kernel_initializer=draw, name="logits")
    return keras.Model(image, layer(features))


def momentum_of_its_own(input_shape, classes, momentum):
    return dropout(input_shape, classes)


def batch_norm(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.Conv2D(8, 3, name="conv")(image)
    features = FusedBatchNormalization(momentum=0.5, name="bn")(features)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(features))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


def linear(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


def every_layer(input_shape, classes):
    """A branch for each of LAYERS, side by side."""
    image = keras.Input(input_shape)
    flat = keras.layers.Flatten()(image)
    branches = []
    for name, (shape, options) in LAYERS.items():
        values = keras.ops.tile(flat, (1, -(-math.prod(shape) // flat.shape[1])))
        values = keras.layers.Reshape(shape)(values[:, : math.prod(shape)])
        values = getattr(keras.layers, name)(**options, name=name)(values)
        branches.append(keras.ops.mean(values, tuple(range(1, len(values.shape) - 1))))
    features = keras.layers.Concatenate()(branches)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


def upsampling(input_shape, classes):
    """Shapes do not tell of which kind its convolutions are: no biases, square, or multiplier 1."""
    image = keras.Input(input_shape)
    features = keras.layers.Conv2D(4, 3, use_bias=False, name="down")(image)
    features = keras.layers.Conv2DTranspose(3, 2, use_bias=False, name="up")(features)
    features = keras.layers.Conv2DTranspose(3, 2, name="square")(features)
    features = keras.layers.Conv2D(3, 2, name="plain")(features)
    features = keras.layers.DepthwiseConv2D(2, name="deep")(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(image, keras.layers.Dense(classes, use_bias=False, name="logits")(features))


def no_model(input_shape, classes):
    return "a model"


def not_built(input_shape, classes):
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(classes)])


def wrong_classes(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Dense(classes + 1)(keras.layers.Flatten()(image)))


def wrong_channels(input_shape, classes):
    image = keras.Input((*input_shape[:2], 3))
    return keras.Model(image, keras.layers.Dense(classes)(keras.layers.Flatten()(image)))


def softmax(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(features))


def nothing_to_prune(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.ops.tile(features, (1, classes)))


def too_deep(input_shape, classes):
    image = keras.Input(input_shape)
    features = keras.layers.MaxPooling2D(input_shape[0] + 1)(image)
    return keras.Model(image, keras.layers.Dense(classes)(keras.layers.Flatten()(features)))


WRONG = {
    "too_deep": r"fails when called with .*\(8, 8, 1\) and 10 classes.*networks.py, line 1\d\d\)",
    "no_model": "expected a keras.Model",
    "not_built": "not built",
    "wrong_classes": r"output shape \(None, 10\).*\(None, 11\)",
    "wrong_channels": r"input shape \(None, 8, 8, 1\).*\(None, 8, 8, 3\)",
    "softmax": "expected logits",
    "nothing_to_prune": "has no kernel that can be masked",
}
