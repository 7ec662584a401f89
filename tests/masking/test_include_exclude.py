"""lottery_tf.masked(include=, exclude=): which layers get masks, also after saving and loading."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError

layers = keras.layers


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """Two layers of the user's own layer."""

    def __init__(self, **options):
        super().__init__(**options)
        self.up, self.down = layers.Dense(6, name="up"), layers.Dense(4, name="down")

    def build(self, input_shape):
        self.up.build(input_shape)
        self.down.build((*input_shape[:-1], 6))

    def call(self, inputs):
        return self.down(self.up(inputs))


@pytest.fixture
def model():
    inputs = keras.Input((5, 4))
    features = layers.Conv1D(4, 2, padding="same", name="conv")(inputs)
    dense = [layers.Dense(4, name=f"dense_{n}") for n in (1, 2)]
    features = keras.Sequential([keras.Input((5, 4)), *dense], name="encoder")(features)
    features = layers.MultiHeadAttention(2, 2, name="attention")(features, features)
    features = layers.LSTM(3, name="lstm")(Block(name="block")(features))
    return keras.Model(inputs, layers.Dense(2, name="head")(features))


ALL = [
    "conv",
    "dense_1",
    "dense_2",
    "query",
    "key",
    "value",
    "attention_output",
    "up",
    "down",
    "kernel",
    "recurrent_kernel",
    "head",
]


def named(model):
    """The layers of the kernels with masks; of the cell of the LSTM, the names of its kernels."""
    paths = [path.split("/") for path in masking.get_masks(model)]
    return sorted(parts[-1] if "lstm_cell" in parts else parts[-2] for parts in paths)


def without(*names):
    return sorted(set(ALL) - set(names))


CHOICES = {
    "nothing": ({}, ALL),
    "a layer": ({"exclude": "conv"}, without("conv")),
    "a nested model": ({"exclude": "encoder"}, without("dense_1", "dense_2")),
    "a pattern of layers": ({"exclude": "*dense_*"}, without("dense_1", "dense_2")),
    "a pattern of kernels": ({"exclude": "*/recurrent_kernel"}, without("recurrent_kernel")),
    "a layer of attention": ({"exclude": ["query", "key"]}, without("query", "key")),
    "all of attention": (
        {"exclude": "attention"},
        without("query", "key", "value", "attention_output"),
    ),
    "in a layer of the user's own": ({"exclude": "block/up"}, without("up")),
    "all of it": ({"exclude": Block}, without("up", "down")),
    "a class": ({"include": layers.Dense}, ["dense_1", "dense_2", "down", "head", "up"]),
    "a function": ({"include": lambda one: one.name == "lstm"}, ["kernel", "recurrent_kernel"]),
    "a list": ({"include": ["head", layers.Conv1D]}, ["conv", "head"]),
    "both": ({"include": ["encoder", "head"], "exclude": "*_1"}, ["dense_2", "head"]),
}
SHORT = {"a pattern of kernels", "a layer of attention", "in a layer of the user's own", "both"}


@pytest.mark.ci
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.ci) for name in CHOICES]
)
def test_what_is_chosen_gets_masks_and_keeps_its_choice(name, model, tmp_path):
    choice, expected = CHOICES[name]
    masked = lottery_tf.masked(model, **choice)
    assert named(masked) == sorted(expected)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert named(loaded) == sorted(expected)
    inputs = np.random.default_rng(0).normal(size=(3, 5, 4))
    for other in (masked, loaded, lottery_tf.unmasked(masked)):
        assert np.allclose(other(inputs), model(inputs), atol=1e-6)


@pytest.mark.ci
def test_what_is_left_out_is_a_plain_layer(model):
    masked = lottery_tf.masked(model, include="head")
    kinds = {layer.name: type(layer) for layer in masked.layers}
    assert kinds["conv"] is layers.Conv1D
    assert kinds["attention"] is layers.MultiHeadAttention
    assert kinds["lstm"] is layers.LSTM
    assert kinds["block"] is Block


@pytest.mark.ci
def test_frozen_layers_get_no_masks_unless_they_are_named(model):
    model.get_layer("conv").trainable = False
    with pytest.warns(UserWarning, match=r"functional.*: conv/kernel\..*include="):
        masked = lottery_tf.masked(model)
    assert named(masked) == without("conv")
    assert named(lottery_tf.masked(model, include="*", exclude="block")) == without("up", "down")


WRONG = {
    "an unknown name": ({"exclude": "haed"}, "exclude: .*haed.* head"),
    "an unknown pattern": ({"include": "x*"}, r"include: .*x\*.* conv/kernel, "),
    "an unknown class": ({"include": layers.Conv3D}, "include: .*Conv3D.*Conv1D, Sequential"),
    "a number": ({"exclude": 3}, "exclude: .*Received: 3"),
    "None in a list": ({"include": ["head", None]}, "include: .*Received: None"),
    "nothing": ({"include": lambda one: False}, "include=.*exclude=.*conv/kernel"),
    "all": ({"exclude": "*"}, "include=.*exclude=.*conv/kernel"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_choice_is_refused(name, model):
    choice, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        lottery_tf.masked(model, **choice)


@pytest.mark.ci
def test_what_has_masks_is_not_left_out(model):
    masked = lottery_tf.masked(model)
    with pytest.raises(InputError, match=r"head/kernel\..*unmasked\(model\)"):
        lottery_tf.masked(masked, exclude="head")


@pytest.mark.ci
def test_names_mean_the_same_in_prune(model):
    masked = lottery_tf.masked(model)
    keep = ("encoder", "*/recurrent_kernel", "block/up", "*attention*")
    lottery_tf.prune(masked, 0.5, scope="layer", keep_dense=keep)
    alive = [mask.all() for mask in masking.get_masks(masked).values()]
    assert sum(alive) == 2 + 1 + 1 + 4
