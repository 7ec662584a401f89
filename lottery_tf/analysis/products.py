"""Sums over the weights of networks, which all distances in weight space follow from. NumPy only.

All measures are on the weights alive in both networks, over all kernels as one vector (Maene et
al. 2021, section 3):

    angular    2 angle / pi: 0 for the same direction, 1 for orthogonal weights, 2 for opposite ones
    cosine     1 - cosine of the angle
    euclidean  L2 norm of the difference

All pairs together cost three matrix products. What these give of two networks that are nearly the
same is a small difference of large sums, with few correct digits. So the differences of such a pair
are summed weight by weight, in a second reading.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.runs.rounds import FinishedRound

BLOCK = 1 << 15  # weights of each network at once: what fits into a processor's cache
CLOSE = 1e-5  # 1 - cosine below which networks are compared weight by weight: 9 digits are left


@dataclasses.dataclass
class Products:
    """Sums over the weights alive in both networks of each pair, float64 (rows, columns).

    Attributes:
        dots: of the products of their weights.
        row_squares, column_squares: of the squared weights of the one, and of the other.
        differences: of the squared differences of their weights.
        unit_differences: the same of the networks divided by their norms; NaN where one is zero.
    """

    dots: Array
    row_squares: Array
    column_squares: Array
    differences: Array
    unit_differences: Array

    @classmethod
    def zeros(cls, *shape: int) -> "Products":
        """Sums over nothing."""
        return cls(*np.zeros((5, *shape)))

    def angular(self) -> Array:
        """2 angle / pi; NaN where a network is zero."""
        chords = np.sqrt(np.minimum(self.unit_differences, 4))
        return 2 / np.pi * 2 * np.arcsin(chords / 2)

    def cosine(self) -> Array:
        """1 - cosine; NaN where a network is zero."""
        return self.unit_differences / 2

    def euclidean(self) -> Array:
        """The norm of the difference."""
        return np.sqrt(self.differences)

    def derive_differences(self) -> Array:
        """Set the differences from the other sums; return where that leaves too few digits."""
        norms = np.sqrt(self.row_squares * self.column_squares)
        nothing = np.full(norms.shape, np.nan)
        cosines = np.divide(self.dots, norms, out=nothing, where=norms > 0)
        squares = self.row_squares + self.column_squares - 2 * self.dots
        self.differences = np.maximum(squares, 0)
        self.unit_differences = 2 * (1 - np.clip(cosines, -1, 1))
        return self.unit_differences < 2 * CLOSE

    def add_differences(self, place: tuple[int, ...], one: Array, other: Array) -> None:
        """Add the differences of a block of the weights alive in both networks of a pair."""
        difference = one - other
        self.differences[place] += difference @ difference
        one_norm, other_norm = np.sqrt([self.row_squares[place], self.column_squares[place]])
        difference = one / one_norm - other / other_norm
        self.unit_differences[place] += difference @ difference


METRICS = {"angular": Products.angular, "cosine": Products.cosine, "euclidean": Products.euclidean}


def add_products(sums: Products, rows: Array, row_masks: Array, columns: Array,
                 column_masks: Array) -> None:  # fmt: skip
    """Adds a block of coordinates to Products: two matrix products, no loop over pairs.

    (Three, if the columns are other networks than the rows.)

    With F and G as the masked weights and M and N as the masks, dots are F G', the squared norms
    on the pair's mask (F * F) N' and M (G * G)'.

    Args:
        sums: of (rows, columns), changed in place.
        rows, columns: float64 (networks, coordinates), zero where masked.
        row_masks, column_masks: float64 0 or 1, of the same shapes.
    """
    sums.dots += rows @ columns.T
    sums.row_squares += rows**2 @ column_masks.T
    if rows is columns:
        sums.column_squares[:] = sums.row_squares.T
    else:
        sums.column_squares += row_masks @ (columns**2).T


def products_of_rounds(
    rows: Sequence[FinishedRound],
    columns: Sequence[FinishedRound],
    on_block: Callable[[int], object] = lambda weights: None,
) -> tuple[Products, Products]:
    """Products of the networks of some rounds with those of others, and of each with its start.

    Reads kernel by kernel, in blocks, so that memory does not grow with the networks; rounds that
    are rows and columns are read once.

    Args:
        rows, columns: the rounds.
        on_block: called with the number of weights that are done.

    Returns:
        (Products of (rows, columns), Products of (rows,) with initial weights on the row's mask).

    Raises:
        InputError: the networks' kernels differ, or a weight is not finite.
    """
    rounds = list(dict.fromkeys([*rows, *columns]))
    row_places, column_places = ([rounds.index(r) for r in group] for group in (rows, columns))
    all_by_all = row_places == column_places == list(range(len(rounds)))
    pairs, starts = Products.zeros(len(rows), len(columns)), Products.zeros(len(rows))
    done = 0
    for path in _kernels_in_common(rounds):
        for weights, alive, initial in _blocks(rounds, rows, path):
            (row, row_alive), (column, column_alive) = (
                (weights, alive) if all_by_all else (weights[places], alive[places])
                for places in (row_places, column_places)
            )
            add_products(pairs, row, row_alive, column, column_alive)
            initial *= row_alive
            starts.dots += np.einsum("rb,rb->r", row, initial)
            starts.row_squares += np.einsum("rb,rb->r", row, row)
            starts.column_squares += np.einsum("rb,rb->r", initial, initial)
            done += weights.shape[1]
            on_block(done)
    _sum_differences(pairs, starts, rows, columns)
    return pairs, starts


def _sum_differences(pairs, starts, rows, columns):
    """Derive the differences of Products; of close networks, sum them from the weights."""
    close = list(zip(*np.nonzero(pairs.derive_differences()), strict=True))
    from_start = np.flatnonzero(starts.derive_differences())
    mirrored = rows == columns
    for place in close:
        pairs.differences[place] = pairs.unit_differences[place] = 0
    starts.differences[from_start] = starts.unit_differences[from_start] = 0
    todo = [(i, j) for i, j in close if rows[i] != columns[j] and not (mirrored and i > j)]
    rounds = [round for i, j in todo for round in (rows[i], columns[j])]
    rounds = list(dict.fromkeys([*rounds, *(rows[i] for i in from_start)]))
    place_of = {round: place for place, round in enumerate(rounds)}
    for path in rounds[0].shapes() if rounds else ():
        for weights, alive, initial in _blocks(rounds, rounds, path):
            for i, j in todo:
                row, column = place_of[rows[i]], place_of[columns[j]]
                one, other = weights[row] * alive[column], weights[column] * alive[row]
                pairs.add_differences((i, j), one, other)
            for i in from_start:
                row = place_of[rows[i]]
                starts.add_differences((i,), weights[row], initial[row] * alive[row])
    for i, j in todo if mirrored else ():
        for sums in (pairs.differences, pairs.unit_differences):
            sums[j, i] = sums[i, j]


def _blocks(rounds, rows, path):
    """Yields blocks of a kernel, float64.

    Each is (trained weights, zero where masked, and masks, of (rounds, block); initial weights of
    (rows, block)).
    """
    sources = ((rounds, "final"), (rounds, "masks"), (rows, "initial"))
    streams = [
        zip(*(round.blocks(which, path, BLOCK) for round in group), strict=True)
        for group, which in sources
    ]
    for parts in zip(*streams, strict=True):
        blocks = [np.stack(part, dtype=np.float64, casting="unsafe") for part in parts]
        for (group, which), block in zip(sources, blocks, strict=True):
            for round, total in zip(group, block.sum(1), strict=True):
                if not np.isfinite(total):
                    raise round.not_finite(which, path)
        weights, alive, initial = blocks
        weights *= alive
        yield weights, alive, initial


def _kernels_in_common(rounds):
    """The kernel paths of the networks; InputError if they differ."""
    first = rounds[0].shapes()
    for round in rounds[1:]:
        if round.shapes() != first:
            raise InputError(
                f"Expected networks of the same kernels. {rounds[0].path} has {first}, "
                f"{round.path} has {round.shapes()}."
            )
    return first


def products_of_weights(start: Weights, end: Weights, masks: tuple[Masks, Masks]) -> Products:
    """Products (1, 1) of two networks that are in memory, under a mask each."""
    sums = Products.zeros(1, 1)
    for path in masks[0]:
        both = masks[0][path] & masks[1][path]
        one, two = (weights[path][both].astype(np.float64) for weights in (start, end))
        sums.dots += one @ two
        sums.row_squares += one @ one
        sums.column_squares += two @ two
    if sums.derive_differences().any():
        sums.differences[:] = sums.unit_differences[:] = 0
        for path in masks[0]:
            both = masks[0][path] & masks[1][path]
            one, two = (weights[path][both].astype(np.float64) for weights in (start, end))
            sums.add_differences((0, 0), one, two)
    return sums
