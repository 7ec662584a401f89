"""Permutes the units of a network to lie nearest to another: weight matching.

Two networks that differ by a permutation of hidden units compute the same function. Coordinate
ascent on the inner product of all weights, one linear assignment per group of units, as Ainsworth
et al. 2023 (Git Re-Basin, section 3.2). NumPy and SciPy, given the symmetries.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from lottery_tf.pruning import Array, Weights

PASSES = 100
MOVING = ("/moving_mean", "/moving_variance")  # permuted, but not matched


Symmetries = Mapping[str, list]  # what symmetries.find gives: {variable path: groups by axis}


def align(symmetries: Symmetries, start: Weights, end: Weights) -> Weights:
    """The weights of `end` with its units permuted to lie nearest to those of `start`.

    They compute the same function as `end`.
    """
    return permute(symmetries, end, match(symmetries, start, end))


def match(symmetries: Symmetries, start: Weights, end: Weights) -> dict[Any, Array]:
    """The permutations {group: (group.size,)} that bring `end` nearest to `start`.

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


def permute(symmetries: Symmetries, weights: Weights, order: Mapping[Any, Array]) -> Weights:
    """New weights with units permuted: unit order[group][i] comes to place i.

    `order` is {group: permutation (group.size,)}; other groups stay as they are.
    """
    return {path: _permuted(a, symmetries.get(path, ()), order) for path, a in weights.items()}


def _permuted(array, axes, order, but=None):
    """An array with its axes permuted, all but one if one is named."""
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

    def __init__(self, symmetries, start, end):
        self.symmetries, self.end = symmetries, end
        self.start = {p: a.astype(np.float64) for p, a in start.items() if not p.endswith(MOVING)}
        self.places = {}
        for path, axes in symmetries.items():
            # The output axis comes first, so that groups are in the order in which they appear.
            for axis, groups in reversed(list(enumerate(axes))):
                first = 0
                for group in groups or ():
                    if not group.fixed:
                        self.places.setdefault(group, []).append((path, axis, first))
                    first += group.size

    def product(self, order):
        """The inner product of all weights."""
        return sum(float(np.vdot(a, self._end(p, order))) for p, a in self.start.items())

    def gains(self, group, order, known=None):
        """What assigning unit j of `end` to place i adds to the product, (size, size).

        Variables with groups that are not among the `known`, the settled ones, are left out.
        """
        gains, taken = np.zeros((group.size, group.size)), {}
        for path, axis, first in self.places[group]:
            if path not in self.start or not self._settled(path, axis, known):
                continue
            if (path, axis) not in taken:
                other = self._end(path, order, but=axis).astype(np.float64)
                taken[path, axis] = [np.moveaxis(a, axis, 0) for a in (self.start[path], other)]
            one, two = (a[first : first + group.size] for a in taken[path, axis])
            gains += one.reshape(group.size, -1) @ two.reshape(group.size, -1).T
        return gains if taken else None

    def _end(self, path, order, but=None):
        return _permuted(self.end[path], self.symmetries.get(path, ()), order, but)

    def _settled(self, path, axis, known):
        return known is None or all(
            other.fixed or other in known
            for index, groups in enumerate(self.symmetries[path])
            for other in groups or ()
            if index != axis
        )

    def from_input(self, order):
        """Sets the permutations one by one, each by what is settled before it."""
        known = set()
        for group in self.places:
            gains = self.gains(group, order, known)
            if gains is None:
                gains = self.gains(group, order)
            if gains is not None:  # channels of zeros have no weights
                order[group] = linear_sum_assignment(gains, maximize=True)[1]
            known.add(group)

    def ascend(self, order):
        """Improves the permutations in turn until none changes."""
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
