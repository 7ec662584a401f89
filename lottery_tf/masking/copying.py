"""Copies of Keras models: the same layers with the same names, weights and state."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.inside import plain_config
from lottery_tf.masking.masks import LEFT_DENSE, Masked
from lottery_tf.method import Array

# What Keras's training leaves in a model; nobody asks it of a copy.
# What training sets; `rounds` sets compile while the user trains.
OF_TRAINING = {
    "history", "optimizer", "stop_training", "stop_predicting", "stop_evaluating", "compile",
}  # fmt: skip


def copy(model: Any, weights: list[Array], *, plain: bool = False) -> Any:
    """A new model of the same layers, with a model's state. It is not compiled.

    Args:
        model: a built keras.Model.
        weights: those of the copy, in Keras's order.
        plain: whether masked layers become the Keras layers that they mask.

    Raises:
        InputError: Keras cannot rebuild it as it is.
    """
    try:
        with _uncompiled(model):
            new = _structure(model, plain)
        copy_state(model, new)
        new.set_weights(weights)
    except Exception as error:  # whatever Keras and the user's classes raise
        raise InputError(
            f"{model.name} cannot be copied: it is, or holds, a subclassed model or layer that "
            "cannot be rebuilt. Give it get_config and from_config, write it as a functional "
            "model, or use masked layers in it, as lottery_tf.masking.MaskedDense for Dense: then "
            f"prune, rounds and fit work as they are. {type(error).__name__}: {error}"
        ) from error
    _check_attributes(model, new)
    return new


def _structure(model, plain):
    """A new model, its weights fresh."""
    if type(model) is keras.Sequential or keras_private.is_functional(model):
        # Rebuilding nested models as a whole gives variables the paths that finished runs have,
        # but layers of their own to models that share some.
        return keras.models.clone_model(
            model,
            clone_function=functools.partial(_rebuilt, plain=plain),
            recursive=keras_private.shares_layers(model),
        )
    new = _rebuilt(model, plain)
    if not new.built:
        new.build_from_config(model.get_build_config())
    return new


def _rebuilt(layer, plain):
    """A new layer of the same configuration."""
    config, kind = layer.get_config(), type(layer)
    if plain:
        config, kind = plain_config(config), getattr(layer, "plain", kind)
        for ours in ("masks_inside", LEFT_DENSE):
            config.pop(ours, None)
    return kind.from_config(config)


@contextlib.contextmanager
def _uncompiled(model: Any) -> Iterator[None]:
    """While it is open, Keras does not copy losses and metrics, which may be the user's own."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def copy_state(model: keras.Layer, new: keras.Layer) -> None:
    """Gives the layers of a copy what their own ways of saving keep outside of weights."""
    for old_layer, new_layer in zip(*map(_computing, (model, new)), strict=True):
        own_way = type(new_layer).load_own_variables is not keras.layers.Layer.load_own_variables
        if own_way and not isinstance(old_layer, Masked):  # as Normalization does
            store: dict[str, Any] = {}
            old_layer.save_own_variables(store)
            new_layer.load_own_variables(store)
        if hasattr(old_layer, "save_assets"):  # the vocabularies of lookup layers
            with tempfile.TemporaryDirectory() as directory:
                old_layer.save_assets(directory)
                new_layer.load_assets(directory)


def _computing(model):
    """Its layers but inputs, which a model and one in it may share, and their copies do not."""
    layers = keras_private.flatten_layers(model)
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def _check_attributes(model, new):
    """InputError if the user's own class holds values that its copy does not have."""
    ignored = vars(keras.Model()).keys() | OF_TRAINING
    found = vars(new)
    for name, value in vars(model).items():
        if name.startswith("_") or name in ignored:
            continue
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if name not in found or (is_plain and found[name] != value):
            raise InputError(
                f"{model.name} cannot be copied: its attribute {name} is {value!r}, that of its "
                f"copy {found.get(name, 'not there')!r}. Let __init__ set it, and get_config and "
                f"from_config of {type(model).__name__} carry it."
            )
