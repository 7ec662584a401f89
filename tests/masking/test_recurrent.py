"""Recurrent layers: their input and recurrent kernels under masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.masking import keras_private

pytestmark = pytest.mark.versions

layers = keras.layers


def stacked():
    return layers.RNN(
        [layers.LSTMCell(3, name="first"), layers.GRUCell(3, name="second")], return_sequences=True
    )


# A layer that holds others, the shape of its input, and the shapes of its kernels. Layers alone
# pass `check_masked_layer` in test_layer_contract.
LAYERS = {
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        (4, 2),
        [(2, 12), (3, 12)] * 2,
    ),
    "stacked": (stacked, (4, 2), [(3, 9), (3, 9), (2, 12), (3, 12)]),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.SimpleRNN(3)),
        (2, 4, 2),
        [(2, 3), (3, 3)],
    ),
}


def outputs(model, inputs):
    return np.asarray(keras.tree.flatten(model(inputs, training=False))[0])


def gradients(model, inputs):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs, training=False) ** 2)
    return tape.gradient(loss, model.trainable_variables)


def random(*shape):
    return np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)


def revive(model):
    """Sets pruned weights to 1 past the masks, as averages of weights may."""
    for kernel in masking.kernels(model).values():
        kernel.variable.assign(np.where(kernel.mask.numpy(), kernel.variable.numpy(), 1))


@pytest.mark.ci
@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_computes_saves_and_loads_under_its_masks(name, tmp_path):
    make, shape, shapes = LAYERS[name]
    model, inputs = keras.Sequential([keras.Input(shape), make()]), random(*shape)
    masked = lottery_tf.masked(model)
    assert np.array_equal(outputs(masked, inputs), outputs(model, inputs))
    for pair in zip(gradients(masked, inputs), gradients(model, inputs), strict=True):
        assert np.allclose(*pair, atol=1e-6)
    assert [tuple(one.variable.shape) for one in masking.kernels(masked).values()] == shapes

    lottery_tf.prune(masked, 0.5, scope="layer")
    expected = outputs(masked, inputs)
    assert not np.allclose(expected, outputs(model, inputs))
    revive(masked)
    assert np.array_equal(outputs(masked, inputs), expected)
    found = dict(
        zip((v.path for v in masked.trainable_variables), gradients(masked, inputs), strict=True)
    )
    assert not any(found[p].numpy()[~m].any() for p, m in masking.get_masks(masked).items())

    masked.save(tmp_path / "model.keras")
    masked.save_weights(tmp_path / "model.weights.h5")
    clone, again = keras.models.clone_model(masked), lottery_tf.masked(model)
    clone.set_weights(masked.get_weights())
    again.load_weights(tmp_path / "model.weights.h5")
    plain = lottery_tf.unmasked(masked)
    for other in (keras.models.load_model(tmp_path / "model.keras"), clone, again, plain):
        assert np.array_equal(outputs(other, inputs), expected)
    assert not any("Masked" in type(one).__name__ for one in keras_private.flatten_layers(plain))
    plain.save_weights(tmp_path / "plain.weights.h5")
    again.load_weights(tmp_path / "plain.weights.h5")
    assert np.array_equal(outputs(again, inputs), expected)


OPTIONS = {
    "sequences": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "stateful": {"stateful": True},
    "unrolled": {"unroll": True},
    "half": {"dtype": "mixed_float16"},
}


@pytest.mark.ci
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_options_of_recurrent_layers_keep_working(kind, options):
    steps = keras.Input(batch_shape=(4, 3, 2))
    seen = layers.Masking()(steps)  # skips steps of zeros
    model = keras.Model(steps, getattr(layers, kind)(3, **OPTIONS[options])(seen))
    inputs = random(3, 2)
    inputs[:2, 1:] = 0
    masked = lottery_tf.masked(model)
    for _ in range(2):  # the second call sees the state of the first
        for pair in zip(*(keras.tree.flatten(m(inputs)) for m in (masked, model)), strict=True):
            assert np.array_equal(*pair)


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_what_is_given_to_a_fused_kernel_is_masked(kind, monkeypatch):
    """On a GPU, Keras gives the kernels of a cell to cuDNN."""
    given = {}

    def fused(*args, kernel, recurrent_kernel, **options):
        given.update(kernel=kernel, recurrent_kernel=recurrent_kernel)
        raise NotImplementedError

    layer = {"lstm": layers.LSTM, "gru": layers.GRU}[kind](3, name=kind)
    masked = lottery_tf.masked(keras.Sequential([keras.Input((4, 2)), layer]))
    lottery_tf.prune(masked, 0.5)
    revive(masked)
    monkeypatch.setattr(keras.src.backend, kind, fused)
    masked(random(4, 2))
    for path, mask in masking.get_masks(masked).items():
        assert not np.asarray(given[path.split("/")[-1]])[~mask].any()


@pytest.mark.ci
def test_rounds_and_resets_of_a_recurrent_layer():
    model = lottery_tf.masked(keras.Sequential([keras.Input((4, 2)), layers.GRU(3, name="gru")]))
    starts = []
    for _ in lottery_tf.rounds(model, 2, 0.5, reset="reinit", scope="erk"):
        starts.append(masking.get_weights(model))
    first, second = starts
    for path, mask in masking.get_masks(model).items():
        assert path.removeprefix("sequential/").startswith("gru/gru_cell/")
        assert (first[path] != second[path]).all()
        assert np.array_equal(second[path] != 0, mask)


@pytest.mark.ci
@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_criteria_with_gradients_score_recurrent_kernels(criterion):
    steps = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(2)])
    model = lottery_tf.masked(steps)
    data = random(4, 2), np.array([0, 1, 0, 1])
    density = lottery_tf.prune(model, 0.5, criterion=criterion, data=data)
    assert density == pytest.approx(0.5, abs=0.01)


@pytest.mark.ci
def test_the_units_of_a_summary_are_those_of_the_layer():
    model = lottery_tf.masked(keras.Sequential([keras.Input((4, 2)), layers.LSTM(3, name="lstm")]))
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    kernel, recurrent = masks
    masks[kernel][:, 1::3] = False  # all four gates of unit 1
    masks[recurrent][:, [0, 3, 6]] = False  # three gates of unit 0
    pruned = {path: weights[path] * mask for path, mask in masks.items()}
    masking.set_weights(model, weights | pruned, masks)
    rows = lottery_tf.summary(model, show=False)
    assert [(row["units"], row["dead_units"]) for row in rows[:2]] == [(3, 1), (3, 0)]
