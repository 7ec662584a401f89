"""Permutes the units of a network to lie nearest to another: weight matching. Imports Keras.

Two networks that differ by a permutation of hidden units compute the same function. `find` tells
which units may be permuted; `align` permutes them by coordinate ascent on the inner product of all
weights, one linear assignment per group of units, as Ainsworth et al. 2023 (Git Re-Basin, section
3.2).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment

from lottery_tf.errors import InputError
from lottery_tf.masking import MaskedConv2D, MaskedDense, keras_private
from lottery_tf.models.layers import PadChannels
from lottery_tf.pruning import Array, Weights

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
        """Return the groups that it is made of now."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


Axis = list[Group]
Symmetries = Mapping[str, list[Axis | None]]  # {variable path: groups of each axis, or None}


def find(network: keras.Model) -> Symmetries:
    """Return {variable path: [groups along each axis, or None where nothing is permuted]}.

    An axis is the concatenation of its groups. Where a shortcut adds two tensors, their channels
    are one group; where it adds channels of zeros (option A), the old and the new channels are
    groups of their own. A flattened image repeats the groups of its channels at every position.

    Raises:
        InputError: the network has a layer whose symmetries are not known here.
    """
    # id of a Keras tensor: groups of its last axis; variable path: those of its axes
    tensors: dict[int, Axis] = {}
    axes: dict[str, list[Axis | None]] = {}
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


def leaves(axis: Axis) -> Axis:
    """Return the groups of an axis, as they were found to be made up."""
    return [leaf for group in axis for leaf in group.leaves()]


def _groups_after(
    layer: keras.Layer, inputs: list[Axis], node: Any, axes: dict[str, list[Axis | None]]
) -> Axis:
    """Return the groups of a layer's output, last axis; add those of its variables to axes."""
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
        for other in inputs[1:]:
            _merge(inputs[0], other)
        return inputs[0]
    elif isinstance(layer, PASS):
        return inputs[0]
    raise InputError(
        f"--align=permutation knows the networks of lottery_tf.models; {layer.name} is a "
        f"{type(layer).__name__} that it does not know. Use --align=none."
    )


def _merge(axis: Axis, added: Axis) -> None:
    """Make the groups of two axes the same, splitting those of different sizes."""
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


def _split(group: Group, size: int) -> tuple[Group, Axis]:
    """Split a group; return its first `size` units, and [the others]."""
    if group.size == size:
        return group, []
    group.parts = [Group(size, group.fixed), Group(group.size - size, group.fixed)]
    return group.parts[0], group.parts[1:]


# Matching ------------------------------------------------------------------------------------

PASSES = 100
MOVING = ("/moving_mean", "/moving_variance")  # permuted, but not matched
Order = dict[Group, Array]  # {group: permutation (group.size,)}; place i has unit order[i]


def align(symmetries: Symmetries, start: Weights, end: Weights) -> Weights:
    """Return the weights of `end` with its units permuted to lie nearest to those of `start`.

    They compute the same function as `end`.
    """
    return permute(symmetries, end, match(symmetries, start, end))


def match(symmetries: Symmetries, start: Weights, end: Weights) -> Order:
    """Return the permutations that bring `end` nearest to `start`.

    Two starts of the ascent are tried, the permutations as they are and those found layer by
    layer from the input; the better one counts.
    """
    matching = _Matching(symmetries, start, end)
    tried = []
    for seeded in (True, False):
        order = {group: np.arange(group.size) for group in matching.places}
        if seeded:
            matching.from_input(order)
        matching.ascend(order)
        tried.append(order)
    return max(tried, key=matching.product)


def permute(symmetries: Symmetries, weights: Weights, order: Order) -> Weights:
    """Return weights with units permuted: unit order[group][i] comes to place i.

    Groups that `order` lacks stay as they are.
    """
    return {path: _permuted(a, symmetries.get(path, ()), order) for path, a in weights.items()}


def _permuted(
    array: Array, axes: Sequence[Axis | None], order: Order, but: int | None = None
) -> Array:
    """Return an array with its axes permuted, all but one if one is named."""
    for axis, groups in enumerate(axes):
        if groups is None or axis == but or not any(group in order for group in groups):
            continue
        index, first = [], 0
        for group in groups:
            index.append(first + order.get(group, np.arange(group.size)))
            first += group.size
        array = np.take(array, np.concatenate(index), axis)
    return array


class _Matching:
    """The inner product of two networks as a function of permutations.

    Attributes:
        places: {group that may be permuted: [(variable path, axis, first index)]}, in the order
            of the layers.
    """

    def __init__(self, symmetries: Symmetries, start: Weights, end: Weights):
        self.symmetries, self.end = symmetries, end
        self.start = {p: a.astype(np.float64) for p, a in start.items() if not p.endswith(MOVING)}
        self.places: dict[Group, list[tuple[str, int, int]]] = {}
        for path, axes in symmetries.items():
            # The output axis comes first, so that groups are in the order in which they appear.
            for axis, groups in reversed(list(enumerate(axes))):
                first = 0
                for group in groups or ():
                    if not group.fixed:
                        self.places.setdefault(group, []).append((path, axis, first))
                    first += group.size

    def product(self, order: Order) -> float:
        """Return the inner product of all weights."""
        return sum(float(np.vdot(a, self._end(p, order))) for p, a in self.start.items())

    def gains(self, group: Group, order: Order, settled: set[Group] | None = None) -> Array | None:
        """Return what assigning unit j of `end` to place i adds to the product, (size, size).

        Variables with groups that are not `settled` are left out; None if no variable is left.
        """
        gains = np.zeros((group.size, group.size))
        taken: dict[tuple[str, int], list[Array]] = {}
        for path, axis, first in self.places[group]:
            if path not in self.start or not self._is_settled(path, axis, settled):
                continue
            if (path, axis) not in taken:
                other = self._end(path, order, but=axis).astype(np.float64)
                taken[path, axis] = [np.moveaxis(a, axis, 0) for a in (self.start[path], other)]
            one, two = (a[first : first + group.size] for a in taken[path, axis])
            gains += one.reshape(group.size, -1) @ two.reshape(group.size, -1).T
        return gains if taken else None

    def _end(self, path: str, order: Order, but: int | None = None) -> Array:
        return _permuted(self.end[path], self.symmetries.get(path, ()), order, but)

    def _is_settled(self, path: str, axis: int, settled: set[Group] | None) -> bool:
        return settled is None or all(
            other.fixed or other in settled
            for index, groups in enumerate(self.symmetries[path])
            for other in groups or ()
            if index != axis
        )

    def from_input(self, order: Order) -> None:
        """Set the permutations one by one, each by what is settled before it."""
        settled: set[Group] = set()
        for group in self.places:
            gains = self.gains(group, order, settled)
            if gains is None:
                gains = self.gains(group, order)
            if gains is not None:  # channels of zeros have no weights
                order[group] = linear_sum_assignment(gains, maximize=True)[1]
            settled.add(group)

    def ascend(self, order: Order) -> None:
        """Improve the permutations in turn until none changes."""
        for _ in range(PASSES):
            changed = False
            for group in self.places:
                gains = self.gains(group, order)
                if gains is None:
                    continue
                best = linear_sum_assignment(gains, maximize=True)[1]
                places = np.arange(group.size)
                more = gains[places, best].sum() - gains[places, order[group]].sum()
                if more > 1e-9 * np.abs(gains).sum():
                    order[group], changed = best, True
            if not changed:
                return
