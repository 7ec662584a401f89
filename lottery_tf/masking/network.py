"""Get and set the weights and masks of a network, a keras.Model, as {path: array}."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Collection
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private, refusals
from lottery_tf.masking.layers import Masked
from lottery_tf.masking.mask_variable import Kernel, MaskLock, check_masked, zero_pruned
from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.dead_units import DEPTHWISE, TRANSPOSED


def kernels(network: Any) -> dict[str, Kernel]:
    """Return {path: Kernel} of the prunable weights of a network.

    The order is that of `keras_private.layers_of_runs`: those of a nested model come backwards.

    Raises:
        InputError: there is none, or the network is not built, or is no Keras model.
    """
    if not isinstance(network, keras.Layer):
        raise InputError(
            "Expected a Keras model, as lottery_tf.masked returns it. Received: "
            f"{refusals.what_it_is(network)}"
        )
    layers = keras_private.layers_of_runs(network)
    holders = [layer for layer in layers if isinstance(layer, Masked)]
    if not_built := [layer.name for layer in holders if not layer.built]:
        raise InputError(
            f"{network.name} is not built: {', '.join(not_built)}. Begin it with a keras.Input, or "
            "call it once on data."
        )
    found = [kernel for layer in holders for kernel in layer.kernels]
    if not found:
        raise InputError(
            f"The network {network.name} has nothing to prune. Use masked layers, as MaskedDense, "
            "or lottery_tf.masked(model)."
        )
    if len({kernel.variable.path for kernel in found}) < len(found):
        name_apart(network)
    return {kernel.variable.path: kernel for kernel in found}


def kernel_kinds(network: keras.Layer) -> dict[str, str]:
    """Return {path: kind} of the kernels of transposed and depthwise convolutions.

    The kinds are those that `count_alive` knows.
    """
    layers = keras.layers
    kinds = {
        TRANSPOSED: (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        DEPTHWISE: (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    }
    return {
        path: kind
        for path, kernel in kernels(network).items()
        for kind, classes in kinds.items()
        if isinstance(kernel.layer, classes)
    }


def variables(network: keras.Layer) -> dict[str, keras.Variable]:
    """Return {path: Keras variable} of a network without its masks, as the files of a round."""
    masks = {id(kernel.mask) for kernel in kernels(network).values()}
    found = [variable for variable in network.weights if id(variable) not in masks]
    if len({variable.path for variable in found}) < len(found):
        name_apart(network)
    return {variable.path: variable for variable in found}


def name_apart(network: keras.Layer) -> None:
    """Give variables that share a path, as in nested models, the names of all layers around them.

    Variables with a path of their own keep it.
    """
    paths = Counter(variable.path for variable in network.weights)
    several = {path for path, count in paths.items() if count > 1}
    held, used = keras_private.held_paths(network), paths.keys() - several
    for variable in network.weights:
        if variable.path in several:
            free = free_name(held.get(id(variable), variable.path), used)
            keras_private.set_path(variable, free)
            used.add(free)


def free_name(name: str, taken: Collection[str], first: int = 1) -> str:
    """Return a name, with the first number behind it that makes it free if it is taken."""
    numbered = (f"{name}_{number}" for number in itertools.count(first))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def get_weights(network: keras.Layer) -> Weights:
    """Return {path: array} of every variable but the masks."""
    return {path: variable.numpy() for path, variable in variables(network).items()}


def get_masks(network: keras.Layer) -> Masks:
    """Return {kernel path: bool array}."""
    return {path: kernel.mask.numpy() for path, kernel in kernels(network).items()}


def compile_with_masks(network: keras.Layer) -> None:
    """Let a model compile its functions anew if it compiled them before it had its masks."""
    masks = [kernel.mask for kernel in kernels(network).values()]
    keras_private.forget_functions_without(network, masks)


def holding(network: keras.Layer, name: str) -> contextlib.AbstractContextManager[None]:
    """Return a context in which Keras's `set_weights` and `load_weights` leave the masks alone.

    The round of this name trains in it.

    Raises:
        InputError: at the end, the masks were changed in another way, or the weights are those of
            another round.
    """
    return MaskLock(kernels(network), name).open()


def apply_masks(network: keras.Layer) -> None:
    """Set the pruned weights of a model to zero, in place.

    Call it after code that writes kernels without a Keras optimizer, such as `kernel.assign_sub`.

    Args:
        network: a model with masks.

    Raises:
        InputError: the model has no masks.
    """
    zero_pruned(kernels(network).values())


def set_weights(network: keras.Layer, weights: Weights, masks: Masks) -> None:
    """Assign weights {path: array} and masks {kernel path: bool array} to a network.

    Raises:
        InputError: one is missing, or has another shape.
    """
    own, masked = variables(network), kernels(network)
    expected: list[tuple[Weights | Masks, str, keras.Variable]] = [
        *((weights, path, variable) for path, variable in own.items()),
        *((masks, path, kernel.mask) for path, kernel in masked.items()),
    ]
    for arrays, path, variable in expected:
        received = arrays[path].shape if path in arrays else "none"
        if received != tuple(variable.shape):
            raise InputError(
                f"These weights are not of this network: expected {path} of shape "
                f"{tuple(variable.shape)}. Found: {received}."
            )
    for path, variable in own.items():
        variable.assign(weights[path])
    for path, kernel in masked.items():
        kernel.mask.decide(masks[path])
        check_masked(path, weights[path], masks[path])
    for layer in keras_private.flatten_layers(network):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
