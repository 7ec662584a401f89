"""Copies of Keras models: the same layers with the same names, weights and state."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras

from lottery_tf.masking import keras_private

Rebuild = Callable[[Any], Any]


def rebuilt(layer: Any) -> Any:
    """A new layer of the same configuration."""
    return type(layer).from_config(layer.get_config())


def copy(model: Any, rebuild: Rebuild = rebuilt) -> Any:
    """A new functional or sequential model of rebuilt layers; its weights are new.

    Args:
        model: a built functional or sequential keras.Model.
        rebuild: a function of a layer that gives the layer in its place.

    Raises:
        ValueError, TypeError, NotImplementedError: Keras cannot rebuild it.
    """
    with _uncompiled(model):
        return keras.models.clone_model(model, clone_function=rebuild)


@contextlib.contextmanager
def _uncompiled(model) -> Iterator[None]:
    """While it is open, Keras does not copy losses and metrics, which may be the user's own."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def copy_state(source: Any, target: Any) -> None:
    """Gives the layers of a copy what those of the original have learned outside of weights.

    As the vocabularies of lookup layers.
    """
    pairs = zip(
        keras_private.flatten_layers(source), keras_private.flatten_layers(target), strict=True
    )
    for old, new in pairs:
        if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
            with tempfile.TemporaryDirectory() as directory:
                old.save_assets(directory)
                new.load_assets(directory)
        if hasattr(new, "finalize_state"):
            new.finalize_state()
