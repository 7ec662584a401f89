"""Builds Conv-4, the small VGG of Frankle & Carbin 2019 and Table 1."""

import keras

from lottery_tf.models.layers import Builder


def conv4(input_shape: tuple[int, ...], classes: int, *, initializer: str) -> keras.Model:
    """Build 2 x 64, pool, 2 x 128, pool, 256, 256: (batch, h, w, c) to (batch, classes) logits."""
    make = Builder(initializer)
    image = features = keras.Input(input_shape, name="image")
    for stage, filters in enumerate((64, 128), 1):
        for layer in (1, 2):
            name = f"conv{stage}_{layer}"
            features = make.conv(features, filters, 3, name, bias=True, activation="relu")
        features = keras.layers.MaxPooling2D(name=f"pool{stage}")(features)
    features = keras.layers.Flatten(name="flatten")(features)
    features = make.dense(features, 256, "hidden1", "relu")
    features = make.dense(features, 256, "hidden2", "relu")
    return keras.Model(image, make.dense(features, classes, "logits"), name="conv4")
