"""The weights and masks of a network, a keras.Model, as {path: array}."""

from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.layers import Kernel, Masked, check_masked, zero_pruned
from lottery_tf.method import Masks, Weights


def kernels(network: Any) -> dict[str, Kernel]:
    """{path: Kernel} of the prunable weights of a network, in the order of its layers.

    Raises:
        InputError: there is none, or two have one path.
    """
    found: dict[str, Kernel] = {}
    for layer in keras_private.flatten_layers(network):
        for kernel in layer.kernels if isinstance(layer, Masked) else ():
            _add(found, network, kernel.variable.path, kernel)
    if not found:
        raise InputError(
            f"The network {network.name} has nothing to prune. Use masked layers, as MaskedDense, "
            "or lottery_tf.masked(model)."
        )
    return found


def transposed_kernels(network: Any) -> set[str]:
    """The paths of the kernels of transposed convolutions: (…, outputs, inputs)."""
    layers = keras.layers
    transposes = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    return {
        kernel.variable.path
        for layer in keras_private.flatten_layers(network)
        if isinstance(layer, Masked) and isinstance(layer, transposes)
        for kernel in layer.kernels
    }


def variables(network: Any) -> dict[str, Any]:
    """{path: Keras variable} of a network without its masks: what a round's files hold.

    Raises:
        InputError: two variables have one path.
    """
    masks = {id(kernel.mask) for kernel in kernels(network).values()}
    found: dict[str, Any] = {}
    for variable in network.weights:
        if id(variable) not in masks:
            _add(found, network, variable.path, variable)
    return found


def _add(found, network, path, value):
    if path in found:
        raise InputError(
            f"Two variables of {network.name} have the path {path}. Give every layer a name of its "
            "own, and build the network after keras.utils.clear_session()."
        )
    found[path] = value


def get_weights(network: Any) -> Weights:
    """{path: array} of every variable but the masks."""
    return {path: variable.numpy() for path, variable in variables(network).items()}


def get_masks(network: Any) -> Masks:
    """{kernel path: bool array}."""
    return {path: kernel.mask.numpy() for path, kernel in kernels(network).items()}


def apply_masks(network: Any) -> None:
    """Sets the pruned weights of a network to zero, in place.

    For training that writes kernels past Keras's optimizers, as by `kernel.assign_sub`.

    Raises:
        InputError: the network has no masks.
    """
    zero_pruned(kernels(network).values())


def set_weights(network: Any, weights: Weights, masks: Masks) -> None:
    """Assigns weights {path: array} and masks {kernel path: bool array} to a network.

    Raises:
        InputError: one is not there, or has another shape.
    """
    pairs: tuple[tuple[Weights | Masks, dict[str, Any]], ...] = (
        (weights, variables(network)),
        (masks, kernels(network)),
    )
    for arrays, of_network in pairs:
        for path, holder in of_network.items():
            expected = tuple(getattr(holder, "mask", holder).shape)
            found = arrays[path].shape if path in arrays else "none"
            if found != expected:
                raise InputError(
                    f"These weights are not of this network: expected {path} of shape {expected}. "
                    f"Found: {found}."
                )
    for path, variable in variables(network).items():
        variable.assign(weights[path])
    for path, kernel in kernels(network).items():
        kernel.mask.assign(masks[path])
        check_masked(path, weights[path], masks[path])
