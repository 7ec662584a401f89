"""A plain Keras copy of a masked model: for export, quantization, other people's code."""

from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import copying, network
from lottery_tf.masking.layers import COMPOSITE, MASKED

# {name of a masked class: the Keras class that it masks}.
PLAIN = {masked.__name__: plain for plain, masked in (MASKED | COMPOSITE).items()}


def unmasked(model: keras.Model) -> keras.Model:
    """A copy of a masked model with plain Keras layers, whose pruned weights are zeros.

    Its layers have the names of the model's, and its weights their order. Layers that the model
    shares are shared. It is not compiled, and Keras's `quantize`, `export` and `enable_lora` work
    on it; training it revives pruned weights.

    Args:
        model: as `masked` or `load` returns it.

    Raises:
        InputError: the model has no masks, or cannot be copied.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(f"unmasked: expected a built Keras model. Received: {model!r}")
    weights, masks = network.get_weights(model), network.get_masks(model)
    try:
        copy = copying.copy(model, _plain_layer)
        copy.set_weights(
            [array * masks[path] if path in masks else array for path, array in weights.items()]
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"unmasked: {model.name} cannot be copied: it is, or holds, a subclassed model whose "
            f"layers cannot be rebuilt. Write it as a functional model. Keras says: {error}"
        ) from error
    copying.copy_state(model, copy)
    return copy


def _plain_layer(layer):
    """A new layer as it would be without masks, also inside."""
    plain = PLAIN.get(type(layer).__name__, type(layer))
    return plain.from_config(_plain_config(layer.get_config()))


def _plain_config(config: Any) -> Any:
    """A configuration in which the plain classes are named in place of the masked ones."""
    if isinstance(config, list | tuple):
        return type(config)(map(_plain_config, config))
    if not isinstance(config, dict):
        return config
    config = {key: _plain_config(value) for key, value in config.items()}
    if str(config.get("registered_name")).startswith("lottery_tf>"):
        plain = PLAIN.get(config["class_name"])
        if plain:
            config |= {"module": "keras.layers", "class_name": plain.__name__}
            config["registered_name"] = None
    return config
