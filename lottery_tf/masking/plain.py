"""Plain Keras models of masked ones: for export, quantization, other people's code."""

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import (
    comparing,
    copying,
    keras_generators,
    keras_private,
    network,
    refusals,
)
from lottery_tf.masking.inside import unmask_inside


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
    refusals.check(model, "unmasked")
    if not model.built:
        raise InputError(f"unmasked: expected a built Keras model. Received: {model!r}")
    weights, masks = network.get_weights(model), network.get_masks(model)
    arrays = [array * masks[path] if path in masks else array for path, array in weights.items()]
    with keras_generators.kept():
        try:
            plain = copying.copy(model, arrays, plain=True)
        except InputError as error:
            raise InputError(f"unmasked: {error}{refusals.about_lora(model)}") from error
        network.name_apart(plain)
        comparing.check_same(model, plain, "unmasked")
    return plain


def unmask(model: keras.Model) -> keras.Model:
    """Take the masks off a model, in place: it has plain Keras layers again. Return the model.

    Pruned weights are zeros, and training revives them. It undoes `mask`, for models that
    `unmasked` cannot copy.

    Args:
        model: as `mask`, `masked` or `load` returns it.

    Raises:
        InputError: the model has no masks.
    """
    network.kernels(model)  # there are some
    layers = keras_private.flatten_layers(model)
    unmask_inside(model)
    keras_private.forget_functions(layers)
    return model
