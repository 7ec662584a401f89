"""Which units of a network may be permuted without changing its function. Imports Keras."""

import dataclasses
import math
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import MaskedConv2D, MaskedDense, keras_private
from lottery_tf.models.layers import PadChannels

PASS = (
    keras.layers.Activation,
    keras.layers.AveragePooling2D,
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.ReLU,
    keras.layers.ZeroPadding2D,
)


@dataclasses.dataclass(eq=False)
class Group:
    """Units that are permuted together wherever they occur.

    Args:
        size: how many.
        fixed: whether they keep their places, as the image's channels and the classes.
        parts: what it was found to be made of, or the group that it was found to be.
    """

    size: int
    fixed: bool = False
    parts: list["Group"] = dataclasses.field(default_factory=list)

    def leaves(self) -> list["Group"]:
        """The groups that it is made of now."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


def find(network: Any) -> dict[str, list[list[Group] | None]]:
    """{variable path: [groups along the axis, or None where nothing is permuted] of each axis}.

    An axis is the concatenation of its groups. Where a shortcut adds two tensors, their channels
    are one group; where it adds channels of zeros (option A), the old and the new channels are
    groups of their own. A flattened image repeats the groups of its channels at every position.

    Raises:
        InputError: the network has a layer whose symmetries are not known here.
    """
    # id of a Keras tensor: groups of its last axis; variable path: those of its axes
    tensors: dict[int, list[Group]] = {}
    axes: dict[str, list[list[Group] | None]] = {}
    for node in keras_private.nodes(network):
        inputs = [tensors[id(tensor)] for tensor in node.arguments.keras_tensors]
        layer, output = node.operation, node.outputs[0]
        tensors[id(output)] = _groups_after(layer, inputs, node, axes)
    for tensor in network.outputs:
        for group in leaves(tensors[id(tensor)]):
            group.fixed = True
    return {
        path: [None if axis is None else leaves(axis) for axis in of_variable]
        for path, of_variable in axes.items()
    }


def leaves(axis: list[Group]) -> list[Group]:
    """The groups of an axis, as they were found to be made up."""
    return [leaf for group in axis for leaf in group.leaves()]


def _groups_after(layer, inputs, node, axes):
    """The groups of the last axis of a layer's output; adds those of its variables to axes."""
    calls = keras_private.calls(layer)
    if layer.variables and calls > 1:
        raise InputError(
            f"--align=permutation knows layers that are called once; {layer.name} is called "
            f"{calls} times. Use --align=none."
        )
    if isinstance(layer, keras.layers.InputLayer):
        return [Group(node.outputs[0].shape[-1], fixed=True)]
    if isinstance(layer, MaskedDense | MaskedConv2D):
        if getattr(layer, "groups", 1) == 1:
            units = [Group(node.outputs[0].shape[-1])]
            (kernel,) = layer.kernels
            spatial = [None] * (len(kernel.mask.shape) - 2)
            axes[kernel.variable.path] = [*spatial, inputs[0], units]
            if layer.use_bias:
                axes[layer.bias.path] = [units]
            return units
    elif isinstance(layer, keras.layers.BatchNormalization):
        axes.update((variable.path, [inputs[0]]) for variable in layer.variables)
        return inputs[0]
    elif isinstance(layer, keras.layers.Flatten):
        *spatial, _ = node.arguments.keras_tensors[0].shape[1:]
        return inputs[0] * math.prod(spatial)
    elif isinstance(layer, PadChannels):
        added = layer.channels - sum(group.size for group in inputs[0])
        return [*inputs[0], Group(added)]
    elif isinstance(layer, keras.layers.Add):
        for added in inputs[1:]:
            _merge(inputs[0], added)
        return inputs[0]
    elif isinstance(layer, PASS):
        return inputs[0]
    raise InputError(
        f"--align=permutation knows the networks of lottery_tf.models; {layer.name} is a "
        f"{type(layer).__name__} that it does not know. Use --align=none."
    )


def _merge(axis, added):
    """Makes the groups of two axes the same, splitting those of different sizes."""
    axis, added = leaves(axis), leaves(added)
    while axis:
        one, two = axis.pop(0), added.pop(0)
        if one is two:
            continue
        size = min(one.size, two.size)
        one, rest = _split(one, size)
        two, rest_added = _split(two, size)
        axis[:0], added[:0] = rest, rest_added
        one.fixed |= two.fixed
        two.parts = [one]


def _split(group, size):
    """(its first `size` units, [the others]); the group is made of the two from now on."""
    if group.size == size:
        return group, []
    group.parts = [Group(size, group.fixed), Group(group.size - size, group.fixed)]
    return group.parts[0], group.parts[1:]
