"""Masked layers inside layers and models of the user's own: saved, loaded, cloned, copied."""

import copy

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.testing import check_zero
from tests.backends import contract
from tests.masking.comparing import same_masks

# Keras's own warning at loading, of a layer that is built when it is first called.
pytestmark = pytest.mark.filterwarnings("ignore:.*was called on layer.*does not have a `build")


@keras.saving.register_keras_serializable("tests")
class TransformerBlock(keras.layers.Layer):
    """As Keras's examples write it: layers made in __init__, and no build."""

    def __init__(self, width, heads, rate=0.1, **options):
        super().__init__(**options)
        self.width, self.heads, self.rate = width, heads, rate
        self.attention = keras.layers.MultiHeadAttention(heads, width // heads)
        self.mlp = keras.Sequential([keras.layers.Dense(2 * width), keras.layers.Dense(width)])
        self.norm = keras.layers.LayerNormalization()
        self.dropout = keras.layers.Dropout(rate)

    def call(self, inputs, training=False):
        attended = self.attention(inputs, inputs)
        features = self.norm(inputs + self.dropout(attended, training=training))
        return features + self.mlp(features)

    def get_config(self):
        own = {"width": self.width, "heads": self.heads, "rate": self.rate}
        return super().get_config() | own


@keras.saving.register_keras_serializable("tests")
class Built(keras.layers.Layer):
    """With a build of its own, which makes layers, and a configuration that Keras derives."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        self.dense = keras.layers.Dense(self.units)
        self.dense.build(input_shape)
        self.scale = self.add_weight(shape=(self.units,), initializer="ones")

    def call(self, inputs):
        return self.dense(inputs) * self.scale

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


@keras.saving.register_keras_serializable("tests")
class LateBuilt(keras.layers.Layer):
    """Its layer is built when it is first called, after itself."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.dense = units, keras.layers.Dense(units)

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones")

    def call(self, inputs):
        return self.dense(inputs) * self.scale


@keras.saving.register_keras_serializable("tests")
class Residual(keras.layers.Wrapper):
    """A wrapper, whose configuration holds a layer."""

    def call(self, inputs):
        return inputs + self.layer(inputs)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, units=3, **options):
        super().__init__(**options)
        self.units = units
        self.block = TransformerBlock(4, 2)
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(self.pool(self.block(inputs)))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("tests")
class Backbone(keras.Model):
    """Functional, but rebuilt from a few numbers, as keras_hub's backbones are."""

    def __init__(self, width, layers, **options):
        inputs = keras.Input((5, 4), name="features")
        features = keras.layers.Dense(width, name="embed")(inputs)
        for index in range(layers):
            features = TransformerBlock(width, 2, name=f"block_{index}")(features)
        super().__init__(inputs, features, **options)
        self.width, self.depth = width, layers

    def get_config(self):
        return {"name": self.name, "width": self.width, "layers": self.depth}


def with_head(layer):
    inputs = keras.Input((5, 4))
    features = keras.layers.GlobalAveragePooling1D()(layer(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(features))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 5, 4), np.float32))
    return model


def classifier():
    """As keras_hub builds them: on the inputs of the backbone itself."""
    backbone = Backbone(4, 1)
    features = keras.layers.GlobalAveragePooling1D()(backbone(backbone.input))
    return keras.Model(backbone.input, keras.layers.Dense(3, name="head")(features))


def nested_blocks():
    return with_head(keras.Sequential([Residual(TransformerBlock(4, 2)), Built(6)], name="tower"))


# A model, and how many kernels it has.
MODELS = {
    "transformer_block": (lambda: with_head(TransformerBlock(4, 2)), 4 + 2 + 1),
    "own_build": (lambda: with_head(Built(6)), 2),
    "late_build": (lambda: with_head(LateBuilt(6)), 2),
    "own_wrapper": (lambda: with_head(Residual(keras.layers.Dense(4))), 2),
    "timed": (lambda: with_head(keras.layers.TimeDistributed(Built(6))), 2),
    "in_nested_models": (nested_blocks, 4 + 2 + 1 + 1),
    "spectral": (lambda: with_head(keras.layers.SpectralNormalization(keras.layers.Dense(6))), 2),
    "subclassed_model": (subclassed, 4 + 2 + 1),
    "backbone": (lambda: Backbone(4, 1), 1 + 4 + 2),
    "classifier": (classifier, 1 + 4 + 2 + 1),
    "with_backbone": (lambda: with_head(Backbone(4, 1)), 1 + 4 + 2 + 1),
}


def inputs():
    return np.random.default_rng(0).normal(size=(8, 5, 4)).astype(np.float32)


def outputs(model):
    return np.asarray(model(inputs(), training=False))


def pruned(name):
    make, kernels = MODELS[name]
    model = make()
    before = outputs(model)
    masked = lottery_tf.masked(model)
    assert np.allclose(outputs(masked), before, atol=1e-6)
    assert len(masking.kernels(masked)) == kernels
    lottery_tf.prune(masked, 0.5)
    train(masked)
    return masked


def train(model):
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "mean_squared_error", run_eagerly=True)
    model.fit(inputs(), 0 * outputs(model) + 1, verbose=0)
    check_zero(model)


LONG = {"in_nested_models", "with_backbone", "classifier"}
NAMES = [pytest.param(name, marks=pytest.mark.ci if name in LONG else ()) for name in MODELS]


@pytest.mark.ci
@pytest.mark.parametrize("name", NAMES)
def test_masks_are_rebuilt_wherever_keras_rebuilds_the_model(name, tmp_path):
    masked = pruned(name)
    expected = outputs(masked)
    path = tmp_path / "model.keras"
    masked.save(path)
    for other in (
        keras.models.load_model(path),
        copy.deepcopy(masked),
        lottery_tf.masked(masked),
    ):
        assert np.allclose(outputs(other), expected, atol=1e-6)
        assert same_masks(masked, other)
        train(other)
    if name != "subclassed_model":  # that Keras does not build again
        clone = keras.models.clone_model(masked)
        clone.set_weights(masked.get_weights())
        assert same_masks(masked, clone)
        assert np.allclose(outputs(clone), expected, atol=1e-6)
    plain = lottery_tf.unmasked(masked)
    assert np.allclose(outputs(plain), expected, atol=1e-6)
    for layer in keras_private.flatten_layers(plain):
        assert not type(layer).__module__.startswith("lottery_tf")


def test_what_reads_a_stored_kernel_reads_it_under_its_mask():
    contract.check_readers()  # on TensorFlow; `tests/backends` runs it on others


class OwnDense(keras.layers.Dense):
    """A subclass of a layer that masks know: it may compute otherwise."""


class Cell(keras.layers.Layer):
    """A recurrent cell as Keras's documentation writes it."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        shape = (self.units, self.units)
        self.recurrent_kernel = self.add_weight(shape=shape, name="recurrent_kernel")

    def call(self, inputs, states):
        output = keras.ops.matmul(inputs, self.kernel)
        output = output + keras.ops.matmul(states[0], self.recurrent_kernel)
        return output, [output]


@pytest.mark.parametrize("layer", [OwnDense(6), keras.layers.RNN(Cell(6), return_sequences=True)])
def test_classes_that_masks_do_not_know_stay_dense_and_are_named(layer):
    names = {weight.name for weight in with_head(layer).trainable_variables} - {"bias"}
    with pytest.warns(UserWarning, match=f"Left dense.*{layer.trainable_variables[0].path}"):
        masked = lottery_tf.mask(with_head(layer))
    assert len(masking.kernels(masked)) == 1
    assert {path.rpartition("/")[2] for path in masking.left_dense(masked)} == names


def test_a_decorated_cell_is_pruned_among_others(monkeypatch):
    monkeypatch.setitem(masking.MASKED, Cell, None)  # for this test alone
    masking.masked_layer("kernel", "recurrent_kernel")(Cell)
    cells = [keras.layers.LSTMCell(4), Cell(6)]
    masked = lottery_tf.mask(with_head(keras.layers.RNN(cells, return_sequences=True)))
    assert len(masking.kernels(masked)) == 2 + 2 + 1
    lottery_tf.prune(masked, 0.5, scope="layer")
    train(masked)


@pytest.mark.ci
def test_weights_are_saved_at_checkpoints(tmp_path):
    masked = pruned("transformer_block")
    path = tmp_path / "best.weights.h5"
    saver = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    masked.fit(inputs(), np.ones((8, 3)), verbose=0, callbacks=[saver])
    other = lottery_tf.masked(MODELS["transformer_block"][0]())
    other.load_weights(path)
    assert same_masks(masked, other)
    assert np.array_equal(outputs(other), outputs(masked))


def test_a_class_that_is_not_registered_is_given_at_loading(tmp_path):
    class Own(TransformerBlock):
        pass

    masked = lottery_tf.masked(with_head(Own(4, 2)))
    lottery_tf.prune(masked, 0.5)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Own": Own})
    assert same_masks(masked, loaded)


class Hard(keras.layers.Layer):
    """Its from_config makes a layer of one class, whatever subclass is asked."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(4)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    @classmethod
    def from_config(cls, config):
        return Hard(**config)


def test_what_would_load_without_masks_is_refused_when_it_is_saved(tmp_path):
    masked = lottery_tf.masked(with_head(Hard()))
    lottery_tf.prune(masked, 0.5)
    with pytest.raises(InputError, match=r"Hard.*save_weights.*from_config"):
        masked.save(tmp_path / "model.keras")
    masked.save_weights(tmp_path / "model.weights.h5")
    other = lottery_tf.masked(with_head(Hard()))
    other.load_weights(tmp_path / "model.weights.h5")
    assert same_masks(masked, other)
