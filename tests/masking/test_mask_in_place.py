"""lottery_tf.mask: models that Keras cannot rebuild are masked as they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.testing import check_zero
from tests.masking.comparing import same_masks

pytestmark = pytest.mark.versions

INPUTS = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
LABELS = np.arange(24) % 3


@pytest.fixture(autouse=True)
def aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class WithoutConfig(keras.Model):
    """As trained networks are shipped: borrowed layers, and other outputs in training."""

    def __init__(self, base):
        super().__init__()
        self.features = base.layers[1:]
        self.attention = keras.layers.MultiHeadAttention(2, 4)
        self.head, self.side = keras.layers.Dense(3), keras.layers.Dense(3)

    def call(self, inputs, training=False):
        for layer in self.features:
            inputs = layer(inputs)
        tokens = inputs[:, None]
        inputs = inputs + self.attention(tokens, tokens)[:, 0]
        return (self.head(inputs), self.side(inputs)) if training else self.head(inputs)


class WithoutOptions(keras.layers.Layer):
    """As examples write layers: no **kwargs, no get_config."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


class Autoencoder(keras.Model):
    """A model without call()."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        self.decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(data)) - data) ** 2)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def base():
    layers = [keras.Input((8,)), keras.layers.Dense(10, activation="relu"), keras.layers.Dense(8)]
    return keras.Sequential(layers)


def without_config():
    image = keras.Input((8,))
    dense = keras.layers.Dense(10, activation="relu")(image)
    model = WithoutConfig(keras.Model(image, keras.layers.Dense(8)(dense)))
    model(INPUTS, training=True)
    return model


def without_options():
    image = keras.Input((8,))
    features = keras.layers.Lambda(lambda x: 2 * x)(WithoutOptions(5)(image))
    return keras.Model(image, keras.layers.Dense(3)(features))


CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("make", "kernels"),
    [pytest.param(without_config, 8, marks=pytest.mark.ci), (without_options, 2)],
)
def test_masks_hold_in_models_that_cannot_be_rebuilt(make, kernels, tmp_path):
    model = make()
    before = model.predict(INPUTS, verbose=0)
    with pytest.raises(InputError, match=r"lottery_tf\.mask\(model\)"):
        lottery_tf.masked(model)
    kind, paths = type(model), [variable.path for variable in model.trainable_variables]
    assert lottery_tf.mask(model) is model
    assert isinstance(model, kind)
    assert len(masking.get_masks(model)) == kernels
    assert [variable.path for variable in model.trainable_variables] == paths
    assert np.array_equal(model.predict(INPUTS, verbose=0), before)
    lottery_tf.prune(model, 0.6)
    assert not np.allclose(model.predict(INPUTS, verbose=0), before)
    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(2):
        with tf.GradientTape() as tape:
            outputs = model(INPUTS, training=True)
            losses = [CROSS_ENTROPY(LABELS, one) for one in keras.tree.flatten(outputs)]
            loss = sum(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    check_zero(model)
    with pytest.raises(InputError, match="save_weights"):
        model.save(tmp_path / "model.keras")
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    after = model.predict(INPUTS, verbose=0)
    keras.utils.clear_session()
    again = lottery_tf.mask(make())
    again.load_weights(path)
    assert np.array_equal(again.predict(INPUTS, verbose=0), after)
    assert same_masks(model, again)
    with pytest.raises(InputError, match=r"lottery_tf\.unmask\(model\)"):
        lottery_tf.unmasked(model)
    check_plain(lottery_tf.unmask(again), make(), after)


def check_plain(unmasked, plain, outputs):
    """A model that was unmasked in place is as one that never had masks."""
    layers = [keras_private.flatten_layers(one) for one in (unmasked, plain)]
    assert [type(layer) for layer in layers[0]] == [type(layer) for layer in layers[1]]
    assert [w.shape for w in unmasked.weights] == [w.shape for w in plain.weights]
    assert all(variable.constraint is None for variable in unmasked.weights)
    assert np.array_equal(unmasked.predict(INPUTS, verbose=0), outputs)
    plain.set_weights(unmasked.get_weights())
    assert np.array_equal(plain.predict(INPUTS, verbose=0), outputs)
    zeros = sum(int((w == 0).sum()) for w in unmasked.get_weights() if w.ndim > 1)
    assert zeros
    unmasked.save_weights("plain.weights.h5")
    plain.load_weights("plain.weights.h5")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((unmasked(INPUTS) - outputs - 1) ** 2)
    gradients = tape.gradient(loss, unmasked.trainable_variables)
    pairs = zip(gradients, unmasked.trainable_variables, strict=True)
    keras.optimizers.SGD(0.1).apply_gradients([pair for pair in pairs if pair[0] is not None])
    assert sum(int((w == 0).sum()) for w in unmasked.get_weights() if w.ndim > 1) < zeros
    with pytest.raises(InputError, match=r"lottery_tf\.masked\(model\)"):
        lottery_tf.unmask(unmasked)


def test_a_model_without_call_is_masked_and_trained_by_its_own_step():
    model = lottery_tf.mask(Autoencoder())
    model.compile("adam")
    lottery_tf.prune(model, 0.5)
    model.fit(INPUTS, verbose=0)
    check_zero(model)
    assert len(lottery_tf.summary(model, show=False)) == 3


def test_a_model_that_was_trained_before_is_compiled_anew():
    model = base()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mean_squared_error")
    model.fit(INPUTS, INPUTS, verbose=0)
    model.evaluate(INPUTS, INPUTS, verbose=0)
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    lottery_tf.mask(model)
    lottery_tf.prune(model, 0.5)
    model.fit(INPUTS, INPUTS, verbose=0)
    check_zero(model)
    for layer, plain in zip(model.layers, expected.layers, strict=True):
        assert isinstance(layer, type(plain))
        assert layer.kernels[0].mask.numpy().mean() < 1


@pytest.mark.ci
@pytest.mark.parametrize("way", ["prune", "rounds"])
def test_a_model_that_was_compiled_around_the_masked_part_learns_of_the_masks(way):
    part, image = base(), keras.Input((8,))
    whole = keras.Model(image, keras.layers.Dense(3)(part(image)))
    whole.compile(keras.optimizers.Adam(1e-2), CROSS_ENTROPY)
    whole.fit(INPUTS, LABELS, verbose=0)
    lottery_tf.mask(part)
    if way == "prune":
        lottery_tf.prune(whole, 0.5)
        whole.fit(INPUTS, LABELS, verbose=0)
    else:
        for _ in lottery_tf.rounds(whole, 2, 0.5):
            whole.fit(INPUTS, LABELS, verbose=0)
    assert any(not mask.all() for mask in masking.get_masks(whole).values())
    check_zero(whole)


@pytest.mark.ci
def test_in_place_and_copied_masks_train_alike(tmp_path):
    ends = []
    for way in (lottery_tf.mask, lottery_tf.masked):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = way(base())
        model.compile(keras.optimizers.Adam(1e-2), "mean_squared_error")
        for round in lottery_tf.rounds(model, 3, 0.5):
            model.fit(INPUTS, INPUTS, verbose=0, callbacks=round.callbacks, shuffle=False)
        ends.append(masking.get_weights(model))
        model.save(tmp_path / f"{way.__name__}.keras")
        loaded = keras.models.load_model(tmp_path / f"{way.__name__}.keras")
        assert np.array_equal(loaded.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0))
        assert not any(isinstance(x, masking.Masked) for x in lottery_tf.unmasked(model).layers)
    assert all(np.array_equal(ends[0][path], array) for path, array in ends[1].items())


def test_layers_that_two_models_share_are_masked_in_both():
    image = keras.Input((8,))
    features = keras.layers.Dense(6, name="shared")(image)
    one = keras.Model(image, keras.layers.Dense(3, name="one")(features))
    other = keras.Model(image, keras.layers.Dense(2, name="other")(features))
    lottery_tf.mask(one, include="shared")
    lottery_tf.mask(other)
    assert len(masking.get_masks(one)) == 1
    assert len(masking.get_masks(other)) == 2
    assert one.get_layer("shared").kernels[0].mask is other.get_layer("shared").kernels[0].mask


class Spare(keras.layers.Layer):
    """As blocks with options are written: it makes a layer that this option does not call."""

    def __init__(self, units):
        super().__init__()
        self.dense, self.gate = keras.layers.Dense(units), keras.layers.Dense(units, name="gate")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_layer_that_a_graph_never_calls_needs_no_weights():
    inputs = keras.Input((8,))
    model = lottery_tf.mask(keras.Model(inputs, Spare(3)(inputs)))
    assert len(masking.get_masks(model)) == 1
    lottery_tf.prune(model, 0.5)
    model.compile("adam", CROSS_ENTROPY)
    model.fit(INPUTS, LABELS, verbose=0)
    check_zero(model)
    outputs = model.predict(INPUTS, verbose=0)
    assert np.allclose(lottery_tf.unmask(model).predict(INPUTS, verbose=0), outputs, atol=1e-6)


def test_choices_are_as_in_masked():
    model = base()
    model.layers[1].trainable = False
    with pytest.warns(UserWarning, match="dense_1"):
        lottery_tf.mask(model)
    assert len(masking.get_masks(model)) == 1
    assert lottery_tf.mask(model, include="*") is model
    assert len(masking.get_masks(model)) == 2
    with pytest.raises(InputError, match="exclude"):
        lottery_tf.mask(base(), exclude="nothing_of_this_name")


def test_what_cannot_be_masked_is_named():
    with pytest.raises(InputError, match="Received: 3"):
        lottery_tf.mask(3)
    with pytest.raises(InputError, match="later"):
        lottery_tf.mask(keras.Sequential([keras.layers.Dense(3, name="later")]))
    with pytest.raises(InputError, match="masked_layer"):
        lottery_tf.mask(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
