"""LeNet-300-100, twice or four times as wide: --model=docs.figures.wide_lenets:twice."""

import keras


def twice(input_shape: tuple[int, ...], classes: int, initializer: str) -> keras.Model:
    """Return a network of 600 and 200 ReLUs."""
    return _wide(input_shape, classes, initializer, 2)


def four_times(input_shape: tuple[int, ...], classes: int, initializer: str) -> keras.Model:
    """Return a network of 1,200 and 400 ReLUs."""
    return _wide(input_shape, classes, initializer, 4)


def _wide(input_shape: tuple[int, ...], classes: int, initializer: str, times: int) -> keras.Model:
    from lottery_tf.models.layers import Builder

    make = Builder(initializer)
    image = keras.Input(input_shape, name="image")
    features = keras.layers.Flatten(name="flatten")(image)
    features = make.dense(features, 300 * times, "hidden1", "relu")
    features = make.dense(features, 100 * times, "hidden2", "relu")
    return keras.Model(image, make.dense(features, classes, "logits"))
