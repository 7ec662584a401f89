"""Builds LeNet-300-100, the fully connected network of Table 1."""

import keras

from lottery_tf.models.layers import Builder


def lenet(input_shape: tuple[int, ...], classes: int, *, initializer: str) -> keras.Model:
    """Build layers of 300 and 100 ReLUs: (batch, *input_shape) to (batch, classes) logits."""
    make = Builder(initializer)
    image = keras.Input(input_shape, name="image")
    features = keras.layers.Flatten(name="flatten")(image)  # (batch, height * width * channels)
    features = make.dense(features, 300, "hidden1", "relu")
    features = make.dense(features, 100, "hidden2", "relu")
    return keras.Model(image, make.dense(features, classes, "logits"), name="lenet")
