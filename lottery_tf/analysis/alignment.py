"""Permutes the units of a network to lie nearest to another: weight matching. Imports Keras.

Two networks that differ by a permutation of hidden units compute the same function. `find` tells
which units may be permuted; `align` permutes them by coordinate ascent on the inner product of all
weights, one linear assignment per group of units, as Ainsworth et al. 2023 (Git Re-Basin, section
3.2).
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment

from lottery_tf.errors import InputError
from lottery_tf.masking import MaskedConv2D, MaskedDense, keras_private
from lottery_tf.models.layers import PadChannels
from lottery_tf.pruning import Array, Weights

PASS = (
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.Dropout),
    *(keras.layers.AveragePooling2D, keras.layers.GlobalAveragePooling2D),
    *(keras.layers.MaxPooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.ZeroPadding2D),
)


@dataclasses.dataclass(eq=False)
class Group:
    """Units that are permuted together wherever they occur."""

    size: int
    fixed: bool = False  # whether they keep their places, as the image's channels and the classes
    # What it was found to be made of, or the group that it was found to be.
    parts: list["Group"] = dataclasses.field(default_factory=list)


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
        tensors[id(node.outputs[0])] = _groups_after(node, inputs, axes)
    for tensor in network.outputs:
        for group in leaves(tensors[id(tensor)]):
            group.fixed = True
    return {
        path: [None if axis is None else leaves(axis) for axis in of_variable]
        for path, of_variable in axes.items()
    }


def leaves(axis: Axis) -> Axis:
    """Return the groups of an axis, as they were found to be made up."""
    return [leaf for group in axis for leaf in (leaves(group.parts) if group.parts else [group])]


def _groups_after(node: Any, inputs: list[Axis], axes: dict[str, list[Axis | None]]) -> Axis:
    """Return the groups of a layer's output, last axis; add those of its variables to axes."""
    layer, size = node.operation, node.outputs[0].shape[-1]
    calls = keras_private.calls(layer)
    if layer.variables and calls > 1:
        raise InputError(
            f"--align=permutation knows layers that are called once; {layer.name} is called "
            f"{calls} times. Use --align=none."
        )
    if isinstance(layer, keras.layers.InputLayer):
        return [Group(size, fixed=True)]
    if isinstance(layer, MaskedDense | MaskedConv2D):
        if getattr(layer, "groups", 1) == 1:
            units = [Group(size)]
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
        return [*inputs[0], Group(layer.channels - sum(group.size for group in inputs[0]))]
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
    """Return the weights of `end`, as a function, with units nearest to those of `start`."""
    return permute(symmetries, end, match(symmetries, start, end))


def match(symmetries: Symmetries, start: Weights, end: Weights) -> Order:
    """Return the permutations that bring `end` nearest to `start`.

    Two starts of the ascent are tried, the permutations found layer by layer from the input and
    those as they are; the better one counts.
    """
    matching = _Matching(symmetries, start, end)
    as_they_are = {group: np.arange(group.size) for group in matching.places}
    starts = matching.from_input(as_they_are), as_they_are
    return max(map(matching.ascend, starts), key=matching.product)


def permute(symmetries: Symmetries, weights: Weights, order: Order) -> Weights:
    """Return weights with the units of the groups in `order` permuted: order[group][i] is at i."""
    return {path: _permuted(a, symmetries.get(path, ()), order) for path, a in weights.items()}


def _permuted(
    array: Array, axes: Sequence[Axis | None], order: Order, but: int | None = None
) -> Array:
    """Return an array with its axes permuted, all but one if one is named."""
    for axis, groups in enumerate(axes):
        if groups is not None and axis != but and any(group in order for group in groups):
            index = [first + order.get(g, np.arange(g.size)) for g, first in _places(groups)]
            array = np.take(array, np.concatenate(index), axis)
    return array


def _places(axis: Axis) -> Iterator[tuple[Group, int]]:
    """Yield each group of an axis, and the index of its first unit."""
    return zip(axis, itertools.accumulate((group.size for group in axis), initial=0), strict=False)


class _Matching:
    """The inner product of two networks as a function of permutations."""

    def __init__(self, symmetries: Symmetries, start: Weights, end: Weights):
        self.symmetries, self.end = symmetries, end
        self.start = {p: a.astype(np.float64) for p, a in start.items() if not p.endswith(MOVING)}
        # {group that may be permuted: [(variable path, axis, first index)]}, in the layers' order
        self.places: dict[Group, list[tuple[str, int, int]]] = {}
        for path, axes in symmetries.items():
            # The output axis comes first, so that groups are in the order in which they appear.
            for axis, groups in reversed(list(enumerate(axes))):
                for group, first in _places(groups or []):
                    if not group.fixed:
                        self.places.setdefault(group, []).append((path, axis, first))

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

    def from_input(self, order: Order) -> Order:
        """Return permutations set one by one, each by what is settled before it."""
        order, settled = dict(order), set[Group]()
        for group in self.places:
            gains = self.gains(group, order, settled)
            if gains is None:
                gains = self.gains(group, order)
            if gains is not None:  # channels of zeros have no weights
                order[group] = linear_sum_assignment(gains, maximize=True)[1]
            settled.add(group)
        return order

    def ascend(self, order: Order) -> Order:
        """Return the permutations, improved in turn until none changes."""
        order = dict(order)
        for _ in range(PASSES):
            before = dict(order)
            for group in self.places:
                if (gains := self.gains(group, order)) is not None:
                    best, places = linear_sum_assignment(gains, maximize=True)[1], range(group.size)
                    more = gains[places, best].sum() - gains[places, order[group]].sum()
                    if more > 1e-9 * np.abs(gains).sum():
                        order[group] = best
            if all(order[group] is before[group] for group in order):
                break
        return order
