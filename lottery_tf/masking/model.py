"""A masked copy of any functional or sequential Keras 3 model."""

import warnings

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import network
from lottery_tf.masking.layers import mask_inside


def masked(model: keras.Model) -> keras.Model:
    """A copy of a model with masked layers, its weights kept, and nothing pruned yet.

    Dense, EinsumDense, Conv, their transposes, DepthwiseConv and SeparableConv become masked, also
    in nested models, wrappers and MultiHeadAttention. The masks hold under `fit`, and are saved
    and loaded with the model. A warning names what stays dense. Compile the copy before `fit`.

    Args:
        model: a built functional or sequential Keras 3 model.

    Raises:
        InputError: the model is not built, cannot be copied, or has nothing to prune.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(
            f"masked: expected a built Keras model, with a keras.Input first. Received: {model!r}"
        )
    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"masked: {model.name} cannot be copied; it is, or holds, a subclassed model whose "
            "layers cannot be rebuilt. Write it as a functional model, or use masked layers in it, "
            "as lottery_tf.masking.MaskedDense for Dense: then prune, rounds and fit work as they "
            f"are. Keras says: {error}"
        ) from error
    mask_inside(copy)
    network.variables(copy)  # nothing to prune, or two variables of one path, are errors
    dense = left_dense(copy)
    if dense:
        warnings.warn(f"Left dense in {model.name}: {', '.join(dense)}", stacklevel=2)
    return copy


def left_dense(model: keras.Model) -> list[str]:
    """Paths of the trainable variables of rank 2 or more, but biases, that have no mask."""
    kernels = network.kernels(model)
    return [
        variable.path
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name != "bias" and variable.path not in kernels
    ]
