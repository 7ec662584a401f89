"""Measure what masks cost: in Keras's own `fit`, in one compiled step, and in `rounds`."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import lottery_tf
from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns

BATCH, CLASSES = 32, 10


def fit_times(
    *, repeats: int, steps: int | None = None
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Measure a step of `fit` of plain networks and of their masked copies at density 10%.

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


def _added(model: keras.Model, rounds: int = 4) -> float:
    """Return the seconds of a round that `rounds` takes itself: to prune and to reset."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in lottery_tf.rounds(model, rounds, 0.2, verbose=0):
            pass
    return (time.perf_counter() - began) / rounds


def _fit(model: keras.Model) -> Callable[[int], float]:
    """Return a function that fits a model for some steps, and returns the seconds of each."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    generator = np.random.default_rng(0)
    shape = (MOST_STEPS * BATCH, *model.input_shape[1:])
    numbers: Any = generator.integers(0, 100, shape) if len(shape) == 2 else generator.random(shape)
    inputs, labels = numbers.astype(np.float32), generator.integers(0, CLASSES, len(numbers))

    def measure(steps: int) -> float:
        used = slice(steps * BATCH)
        began = time.perf_counter()
        model.fit(inputs[used], labels[used], batch_size=BATCH, shuffle=False, verbose=0)
        return (time.perf_counter() - began) / steps

    measure(1)
    return measure


def mlp() -> keras.Model:
    layers = [keras.Input((28, 28)), keras.layers.Flatten()]
    layers += [keras.layers.Dense(width, activation="relu") for width in (300, 100)]
    return keras.Sequential([*layers, keras.layers.Dense(CLASSES)])


def cnn() -> keras.Model:
    layers = [keras.Input((16, 16, 3))]
    for filters in (32, 64):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu")]
        layers += [keras.layers.BatchNormalization(), keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(CLASSES)])


def transformer() -> keras.Model:
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


SHAPE, DENSITY = (784, 300), 0.1  # of the one dense kernel of `step_times`


def _select(mask: Any, kernel: Any) -> Any:
    return tf.where(mask, kernel, tf.zeros((), kernel.dtype))


def _as_is(mask: Any, kernel: Any) -> Any:
    return kernel


def _product(mask: Any, kernel: Any) -> Any:
    return tf.cast(mask, kernel.dtype) * kernel


# {way: (type of the mask, kernel of the forward pass, kernel after the update)}
WAYS: dict[str, tuple[Any, Callable, Callable]] = {
    "no mask": (tf.bool, _as_is, _as_is),
    "update": (tf.bool, _as_is, _select),
    "forward pass": (tf.bool, _select, _as_is),
    "both": (tf.bool, _select, _select),
    "both, cast mask": (tf.bool, _product, _product),
    "both, int8 mask": (tf.int8, _product, _product),
    "both, float mask": (tf.float32, _product, _product),
}


def step_times(*, repeats: int, steps: int | None = None) -> dict[str, list[float]]:
    """Return {way: [seconds of a step in each repeat]} by where and how a mask is applied.

    A step trains one dense kernel, compiled by XLA.
    """
    ways = {name: _trained(*way) for name, way in WAYS.items()}
    count = steps or steps_for(ways["no mask"], most=MOST_STEPS)
    for way in ways.values():
        way(1)  # compiles
    measures = {name: lambda way=way: way(count) for name, way in ways.items()}
    return take_turns(measures, repeats=repeats, what=f"{count} steps at a time")


def _trained(mask_type: Any, forward: Callable, after: Callable) -> Callable[[int], float]:
    """Return a function that trains for some steps, and returns the seconds of each."""
    generator = np.random.default_rng(0)
    mask = tf.constant(generator.random(SHAPE) < DENSITY)
    kernel = keras.Variable(np.where(mask, generator.normal(size=SHAPE), 0), dtype="float32")
    mask, optimizer = tf.Variable(tf.cast(mask, mask_type)), keras.optimizers.Adam(1e-3)
    optimizer.build([kernel])
    inputs = tf.constant(generator.random((BATCH, SHAPE[0])), tf.float32)
    targets = tf.constant(generator.random((BATCH, SHAPE[1])), tf.float32)

    @tf.function(jit_compile=True)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = inputs @ forward(mask, tf.convert_to_tensor(kernel))
            loss = tf.reduce_mean((outputs - targets) ** 2)
        optimizer.apply([tape.gradient(loss, kernel.value)], [kernel])
        if after is not _as_is:
            kernel.assign(after(mask, tf.convert_to_tensor(kernel)))
        return loss

    def measure(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            loss = step()
        loss.numpy()
        return (time.perf_counter() - began) / steps

    return measure
