"""Keras layers whose kernel is multiplied by a mask, and the weights and masks of a network."""

import keras
import numpy as np

from lottery_tf.errors import InputError


class KeepMasked(keras.constraints.Constraint):
    """Sets pruned weights to zero; Keras applies it after every update by an optimizer.

    So neither momentum nor weight decay nor the slots of Adam can revive a pruned weight. The
    layer makes it with its mask: it is not part of the layer's configuration.
    """

    def __init__(self, mask, user_constraint):
        self.mask = mask
        self.user_constraint = user_constraint

    def __call__(self, kernel):
        if self.user_constraint is not None:
            kernel = self.user_constraint(kernel)
        return _select(self.mask, kernel)


class Masked:
    """Mixin before a Keras layer with a `_kernel`: the layer computes with kernel * mask.

    `mask` is a non-trainable bool weight of the kernel's shape, True where the weight lives; it is
    saved and loaded by Keras with the layer.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.mask = self.add_weight(
            name="mask",
            shape=self._kernel.shape,
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        self._kernel.constraint = KeepMasked(self.mask, self._kernel.constraint)

    @property
    def kernel(self):
        """The kernel under the mask: a pruned weight is zero, and gets no gradient."""
        return _select(self.mask, super().kernel)

    def save_own_variables(self, store):
        assert_masked(self._kernel.path, self._kernel.numpy(), self.mask.numpy())
        super().save_own_variables(store)
        store["mask"] = self.mask

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.mask.assign(store["mask"])


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedDense(Masked, keras.layers.Dense):
    """keras.layers.Dense with a mask."""


def _select(mask, kernel):
    """kernel * mask; selecting by bools costs LeNet's step nothing, multiplying floats 15%."""
    return keras.ops.where(mask, kernel, keras.ops.zeros((), kernel.dtype))


def assert_masked(path, kernel, mask):
    """Raises AssertionError if a pruned weight is not exactly zero."""
    alive = np.count_nonzero(kernel[np.logical_not(mask)])
    assert not alive, f"{alive} pruned weights of {path} are not zero."


def masked_layers(network):
    """{kernel path: layer} of the prunable layers of a network, in the order of its layers."""
    layers = {
        layer._kernel.path: layer
        for layer in network._flatten_layers(include_self=False)
        if isinstance(layer, Masked)
    }
    if not layers:
        raise InputError(
            f"The network {network.name} has nothing to prune. Use masked layers, as MaskedDense."
        )
    return layers


def variables(network):
    """{path: Keras variable} of a network without its masks: what a round's files hold.

    Raises:
        InputError: two variables of one path.
    """
    masks = {id(layer.mask) for layer in masked_layers(network).values()}
    found = {}
    for variable in network.weights:
        if id(variable) in masks:
            continue
        if variable.path in found:
            raise InputError(
                f"Two variables of {network.name} have the path {variable.path}. Give every layer "
                "a name of its own."
            )
        found[variable.path] = variable
    return found


def get_weights(network):
    """{path: array} of every variable but the masks."""
    return {path: variable.numpy() for path, variable in variables(network).items()}


def set_weights(network, weights, masks):
    """Assigns weights {path: array} and masks {kernel path: bool array} to a network."""
    layers = masked_layers(network)
    for path, variable in variables(network).items():
        variable.assign(weights[path])
    for path, layer in layers.items():
        layer.mask.assign(masks[path])
        assert_masked(path, weights[path], masks[path])
