import keras
import numpy as np
import pytest
import tensorflow as tf
from packaging.version import Version

from lottery_tf.models.normalization import FusedBatchNormalization


def images(seed=0):
    generator = np.random.default_rng(seed)
    return (3 + 2 * generator.standard_normal((16, 5, 5, 4))).astype(np.float32)


def run(layer, inputs, steps=3):
    """Outputs, gradients and weights of a layer after some training steps; and its inference."""
    weights = images(1)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2 * weights)
        gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])
    return [outputs, *gradients, *layer.variables, layer(inputs, training=False)]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_it_is_the_function_of_keras(affine, jit_compile):
    found = {}
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-5, center=affine, scale=affine)
        layer.build((None, 5, 5, 4))
        if affine:
            layer.gamma.assign([0.5, 1, 2, 3])
            layer.beta.assign([0, 1, 2, 3])
        call = tf.function(lambda inputs, layer=layer: run(layer, inputs), jit_compile=jit_compile)
        found[kind] = [np.array(value) for value in call(tf.constant(images()))]
        found[kind] += [variable.numpy() for variable in layer.variables]
    for one, other in zip(*found.values(), strict=True):
        scale = max(1, np.abs(other).max())
        assert np.abs(one - other).max() <= 2e-5 * scale


def test_what_the_fused_operation_cannot_do_is_kerass_own():
    inputs = tf.constant(images())
    for options in ({"axis": 1}, {"synchronized": True}, {"renorm": True}):
        if "renorm" in options and Version(keras.__version__) < Version("3.14"):
            continue  # it has none
        outputs = [
            kind(**options)(inputs, training=True).numpy()
            for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
        ]
        assert np.array_equal(*outputs), options
    flat = tf.constant(images().reshape(16, -1))
    assert FusedBatchNormalization()(flat, training=True).shape == flat.shape


def test_bfloat16_stays_in_bfloat16():
    layer = FusedBatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(tf.constant(images()), training=True)
    assert outputs.dtype == tf.bfloat16
    expected = keras.layers.BatchNormalization()(images(), training=True)
    assert np.abs(tf.cast(outputs, tf.float32) - expected).max() < 0.02


def test_it_is_saved_and_loaded(tmp_path):
    image = keras.Input((5, 5, 4))
    model = keras.Model(image, FusedBatchNormalization(name="bn")(image))
    model(images(), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(images()), model(images()))
