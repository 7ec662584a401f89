"""A masked copy of any functional or sequential Keras 3 model."""

import warnings

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import comparing, copying, network
from lottery_tf.masking.inside import mask_inside


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
    copy = copying.copy(model, model.get_weights())
    mask_inside(copy)
    network.variables(copy)  # nothing to prune, or two variables of one path, are errors
    comparing.check_same(model, copy)
    _compile(model, copy)
    dense = left_dense(copy)
    if dense:
        warnings.warn(f"Left dense in {model.name}: {', '.join(dense)}", stacklevel=2)
    return copy


def _compile(model, copy):
    """Compiles a copy as the model is, if Keras can rebuild its optimizer, losses and metrics."""
    if not model.compiled:
        return
    try:
        copy.compile_from_config(model.get_compile_config())
    except Exception:  # a loss, metric or schedule that is not registered
        copy.compiled = False


def left_dense(model: keras.Model) -> list[str]:
    """Paths of the trainable variables of rank 2 or more, but biases, that have no mask."""
    kernels = network.kernels(model)
    return [
        variable.path
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name != "bias" and variable.path not in kernels
    ]
