"""Networks that several tests of exports share."""

import keras


def two_inputs():
    first, second = keras.Input((6,), name="first"), keras.Input((4, 5), name="second")
    attention = keras.layers.MultiHeadAttention(2, 4)(second, second)
    pooled = keras.layers.GlobalAveragePooling1D()(attention)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(64, "relu")], name="inner")
    features = keras.layers.Concatenate()([inner(first), pooled])
    heads = [keras.layers.Dense(40, name="class")(features), keras.layers.Dense(1, name="size")]
    return keras.Model([first, second], [heads[0], heads[1](features)])
