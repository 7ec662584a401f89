"""What masks cost in Keras's own `fit`, and what `rounds` adds to a round."""

import time
import warnings

import keras
import numpy as np

import lottery_tf
from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns

BATCH, CLASSES = 32, 10


def fit_times(*, repeats, steps=None):
    """Seconds of a step of `fit` of plain networks and of their masked copies at density 10%.

    Args:
        repeats: how often each way is measured, after one warm-up.
        steps: of each repeat; by default as many as take about two seconds.

    Returns:
        ({"mlp": {"plain": [seconds of each repeat], "masked": […]}, …}, {"mlp": seconds that
        `rounds` adds to a round}).
    """
    times, added = {}, {}
    for name, make in NETWORKS.items():
        plain = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table that loses its last weights
            masked = lottery_tf.masked(plain)
            lottery_tf.prune(masked, density=0.1)
        ways = {"plain": _fit(plain), "masked": _fit(masked)}
        count = steps or steps_for(ways["plain"], most=MOST_STEPS)
        measures = {way: lambda fit=fit, count=count: fit(count) for way, fit in ways.items()}
        times[name] = take_turns(measures, repeats=repeats, what=f"{name}, {count} steps at a time")
        added[name] = _added(masked)
    return times, added


def _added(model, turns=4):
    """Seconds of a turn of `rounds` that are not the user's: to prune, reset and renew."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in lottery_tf.rounds(model, turns, 0.2, verbose=0):
            pass
    return (time.perf_counter() - began) / turns


def _fit(model):
    """A function of a number of steps -> seconds of each; it compiles at its first call."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    generator = np.random.default_rng(0)
    shape = (MOST_STEPS * BATCH, *model.input_shape[1:])
    inputs = generator.integers(0, 100, shape) if len(shape) == 2 else generator.random(shape)
    inputs, labels = inputs.astype(np.float32), generator.integers(0, CLASSES, len(inputs))

    def measure(steps):
        used = slice(steps * BATCH)
        began = time.perf_counter()
        model.fit(inputs[used], labels[used], batch_size=BATCH, shuffle=False, verbose=0)
        return (time.perf_counter() - began) / steps

    measure(1)
    return measure


def mlp():
    layers = [keras.Input((28, 28)), keras.layers.Flatten()]
    layers += [keras.layers.Dense(width, activation="relu") for width in (300, 100)]
    return keras.Sequential([*layers, keras.layers.Dense(CLASSES)])


def cnn():
    layers = [keras.Input((16, 16, 3))]
    for filters in (32, 64):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu")]
        layers += [keras.layers.BatchNormalization(), keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(CLASSES)])


def transformer():
    tokens = keras.Input((32,))
    features = keras.layers.Embedding(100, 64)(tokens)
    for _ in range(2):
        attention = keras.layers.MultiHeadAttention(4, 16)(features, features)
        features = keras.layers.LayerNormalization()(features + attention)
        inner = keras.layers.Dense(128, activation="gelu")(features)
        features = keras.layers.LayerNormalization()(features + keras.layers.Dense(64)(inner))
    return keras.Model(
        tokens, keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling1D()(features))
    )


NETWORKS = {"mlp": mlp, "cnn": cnn, "transformer": transformer}
