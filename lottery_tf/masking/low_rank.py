"""Keras's LoRA on masked layers, which compute with mask * (W + A B), and how it is merged.

Both the mask and W stay as they are while A and B train, so the density does, too.
"""

from collections.abc import Callable
from typing import Any

import keras

from lottery_tf.masking import keras_private
from lottery_tf.pruning import Array


def adapters(layer: keras.Layer) -> list[keras.Variable]:
    """Return A and B of a layer; [] where `enable_lora` was not called."""
    if not getattr(layer, "lora_enabled", False):
        return []
    names = [f"lora_{kernel_name(layer)}_{one}" for one in "ab"]
    return [getattr(layer, name) for name in names if hasattr(layer, name)]


def kernel_name(layer: keras.Layer) -> str:
    """Return the attribute with the kernel that LoRA adapts."""
    return "embeddings" if hasattr(layer, "lora_embeddings_a") else "kernel"


def merged(layer: keras.Layer) -> Array:
    """Return the kernel that an adapted layer computes with, as Keras saves it: zero if pruned."""
    return keras.ops.convert_to_numpy(getattr(layer, kernel_name(layer)))


def merge(layer: keras.Layer) -> None:
    """Put A B into the kernel of an adapted layer, in place, and set B to zero."""
    array, (_, last) = merged(layer), adapters(layer)
    keras_private.stored_variable(layer, kernel_name(layer)).assign(array)
    last.assign(keras.ops.zeros(last.shape))


def without(model: keras.Layer) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that takes LoRA out of the configuration of a layer of a model."""
    names = {layer.name for layer in keras_private.flatten_layers(model) if adapters(layer)}

    def change(config: dict[str, Any]) -> dict[str, Any]:
        if config.get("name") not in names:
            return config
        return {key: v for key, v in config.items() if key not in ("lora_rank", "lora_alpha")}

    return change
