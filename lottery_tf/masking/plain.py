"""A plain Keras copy of a masked model: for export, quantization, other people's code."""

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import copying, network


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
    arrays = [array * masks[path] if path in masks else array for path, array in weights.items()]
    return copying.copy(model, arrays, plain=True)
