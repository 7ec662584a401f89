"""LeNet-300-100, the fully connected network of Table 1."""

import keras

from lottery_tf.masking import MaskedDense
from lottery_tf.models import initializer as named_initializer


def lenet(input_shape, classes, *, initializer="kaiming_uniform"):
    """(batch, *input_shape) -> (batch, classes) logits, by hidden layers of 300 and 100 ReLUs."""
    image = keras.Input(input_shape, name="image")
    features = keras.layers.Flatten(name="flatten")(image)  # (batch, height * width * channels)
    for name, units, activation in (
        ("hidden1", 300, "relu"),
        ("hidden2", 100, "relu"),
        ("logits", classes, None),
    ):
        features = MaskedDense(
            units,
            activation=activation,
            kernel_initializer=named_initializer(initializer),
            name=name,
        )(features)
    return keras.Model(image, features, name="lenet")
