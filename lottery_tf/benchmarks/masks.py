"""Where a mask costs time in a training step: of one dense kernel, compiled by XLA, with Adam."""

import time

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns

BATCH, SHAPE, DENSITY = 32, (784, 300), 0.1


def _select(mask, kernel):
    return tf.where(mask, kernel, tf.zeros((), kernel.dtype))


def _as_is(mask, kernel):
    return kernel


def _product(mask, kernel):
    return tf.cast(mask, kernel.dtype) * kernel


# {way: (the mask's type, the kernel that the forward pass uses, what the update leaves of it)}
WAYS = {
    "no mask": (tf.bool, _as_is, _as_is),
    "update": (tf.bool, _as_is, _select),
    "forward pass": (tf.bool, _select, _as_is),
    "both": (tf.bool, _select, _select),
    "both, cast mask": (tf.bool, _product, _product),
    "both, int8 mask": (tf.int8, _product, _product),
    "both, float mask": (tf.float32, _product, _product),
}


def step_times(*, repeats, steps=None):
    """Seconds of a step, by where and how the mask is applied.

    Args:
        repeats: how often each way is measured, after one warm-up.
        steps: of each repeat; by default as many as take about two seconds.

    Returns:
        {way: [seconds of each repeat]}.
    """
    ways = {name: _trained(*way) for name, way in WAYS.items()}
    count = steps or steps_for(ways["no mask"], most=MOST_STEPS)
    for way in ways.values():
        way(1)  # compiles
    measures = {name: lambda way=way: way(count) for name, way in ways.items()}
    return take_turns(measures, repeats=repeats, what=f"{count} steps at a time")


def _trained(mask_type, forward, after):
    """A function of a number of steps -> seconds of each."""
    generator = np.random.default_rng(0)
    mask = tf.constant(generator.random(SHAPE) < DENSITY)
    kernel = keras.Variable(np.where(mask, generator.normal(size=SHAPE), 0), dtype="float32")
    mask, optimizer = tf.Variable(tf.cast(mask, mask_type)), keras.optimizers.Adam(1e-3)
    optimizer.build([kernel])
    inputs = tf.constant(generator.random((BATCH, SHAPE[0])), tf.float32)
    targets = tf.constant(generator.random((BATCH, SHAPE[1])), tf.float32)

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            outputs = inputs @ forward(mask, tf.convert_to_tensor(kernel))
            loss = tf.reduce_mean((outputs - targets) ** 2)
        optimizer.apply([tape.gradient(loss, kernel.value)], [kernel])
        if after is not _as_is:
            kernel.assign(after(mask, tf.convert_to_tensor(kernel)))
        return loss

    def measure(steps):
        began = time.perf_counter()
        for _ in range(steps):
            loss = step()
        loss.numpy()
        return (time.perf_counter() - began) / steps

    return measure
