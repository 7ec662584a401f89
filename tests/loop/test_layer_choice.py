"""Fractions, and layers that are kept, by name and pattern in models of the user's own."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError


@pytest.fixture
def model():
    """An encoder of a nested model and attention, then a head."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 10))
    layers = [keras.layers.Dense(10, name=f"dense_{n}") for n in (1, 2)]
    features = keras.Sequential([keras.Input((5, 10)), *layers], name="encoder")(inputs)
    features = keras.layers.MultiHeadAttention(2, 5, name="attention")(features, features)
    return lottery_tf.masked(keras.Model(inputs, keras.layers.Dense(10, name="head")(features)))


def alive(model):
    """{last two names of the path: part of the weights that live}; every kernel has 100."""
    return {
        "/".join(path.split("/")[-3:-1]): np.round(mask.mean(), 2)
        for path, mask in masking.get_masks(model).items()
    }


NAMES = {
    "a layer": ({"head": 0.5}, {"head": 0.5}),
    "a nested model": ({"encoder": 0.5}, {"dense_1": 0.5, "dense_2": 0.5}),
    "a layer in it": ({"dense_2": 0.5}, {"dense_2": 0.5}),
    "a part of attention": ({"query": 0.5}, {"query": 0.5}),
    "a pattern": ({"dense_*": 0.5}, {"dense_1": 0.5, "dense_2": 0.5}),
    "the later of two names": (
        {"attention": 0.5, "value": 0.3},
        {"query": 0.5, "key": 0.5, "attention_output": 0.5, "value": 0.7},
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_fractions_of_their_own(name, model):
    fractions, expected = NAMES[name]
    lottery_tf.prune(model, 0.2, scope="layer", layer_fractions=fractions)
    for path, part in alive(model).items():
        assert part == expected.get(path.split("/")[-1], 0.8), path


def test_fractions_hold_in_every_turn(model):
    options = {"scope": "layer", "layer_fractions": {"head": 0.1}, "keep_dense": ("encoder",)}
    for _ in lottery_tf.rounds(model, 3, 0.5, **options):
        pass
    for path, part in alive(model).items():
        layer = path.split("/")[-1]
        assert part == (0.81 if layer == "head" else 1 if "dense" in layer else 0.25), path


def test_what_does_not_go_with_fractions_of_layers_is_said_at_the_call(model):
    for options, words in (
        ({"fraction": 0.2}, "expected scope=layer"),
        (
            {"target_density": 0.1, "scope": "layer"},
            "expected scope=layer or scope=output, and a fraction",
        ),
        ({"fraction": 0.2, "scope": "layer", "keep_dense": ("*",)}, "a layer or more to be left"),
    ):
        with pytest.raises(InputError, match=words):
            lottery_tf.rounds(model, 3, layer_fractions={"head": 0.1}, **options)
