"""Weights that live and die together: N:M patterns, blocks and channels. NumPy only.

A product sums over the inputs of a kernel. Patterns and blocks lie along them, as in the kernels
that make use of them (cuSPARSELt, TensorRT, XNNPACK). A `Layout` says which axes they are:

| kernel | shape | inputs | outputs |
|---|---|---|---|
| of Dense and cells of recurrent layers | (in, out) | in | out |
| of Conv and ConvLSTM; pointwise kernel | (..., in, out) | in, at each tap by itself | out |
| of a transposed Conv | (..., out, in) | in, at each tap by itself | out |
| of EinsumDense, so of attention | by its equation | letters that the output lacks | the others |
| table of a ReversibleEmbedding with tied weights | (tokens, out) | out | tokens |
| `reverse_embeddings`, where they are not tied | (in, tokens) | in | tokens |

No product sums over a table that is looked up alone, nor over channels in a depthwise convolution:
they have no layout.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning.arrays import Array, Masks, Weights

POOLS = ("sum", "mean", "l2")
CHANNEL, BLOCKS, N_OF_M = "channel", "blocks", "n:m"
FORMS = "none, 2:4 (any N:M), 1x4 (blocks of outputs x inputs), or channel"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What is structured: `n` of every `m` inputs; blocks of `n` outputs x `m` inputs; channels."""

    kind: str
    n: int = 1
    m: int = 1

    @property
    def densities(self) -> list[float]:
        """The densities that an N:M pattern is reached by: of 2:4 3/4, and then 1/2."""
        return [kept / self.m for kept in range(self.m - 1, self.n - 1, -1)]

    def leads_to(self, densities: Sequence[float]) -> bool:
        """Return whether densities are those of an N:M pattern, and lead to it."""
        allowed = self.densities
        near = [min(allowed, key=lambda one: abs(one - density)) for density in densities]
        same = np.allclose(near, densities, rtol=0, atol=1e-6)
        return same and near[-1] == allowed[-1]

    def __str__(self) -> str:
        texts = {N_OF_M: f"{self.n}:{self.m}", BLOCKS: f"{self.n}x{self.m}"}
        return texts.get(self.kind, self.kind)


def parse(structure: object, name: str = "structure") -> Pattern | None:
    """Return the Pattern that a user wrote; None where weights are pruned one by one.

    Args:
        structure: None or "none", "2:4", "1x4" or (1, 4), "channel".
        name: of the argument, for errors.

    Raises:
        InputError: it is none of these.
    """
    if structure is None or structure == "none":
        return None
    if structure == CHANNEL:
        return Pattern(CHANNEL)
    if isinstance(structure, tuple | list) and len(structure) == 2:
        found = re.fullmatch("([0-9]+)(x)([0-9]+)", f"{structure[0]}x{structure[1]}")
    else:
        found = re.fullmatch("([0-9]+)([:x])([0-9]+)", str(structure))
    if found:
        n, m = int(found[1]), int(found[3])
        if found[2] == ":" and 0 < n < m:
            return Pattern(N_OF_M, n, m)
        if found[2] == "x" and n * m > 1:
            return Pattern(BLOCKS, n, m)
    raise InputError(f"{name}: expected {FORMS}. Received: {structure!r}")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axes of a kernel that a product sums over, and those of its outputs; others are taps."""

    inputs: tuple[int, ...] = (-2,)
    outputs: tuple[int, ...] = (-1,)

    def matrices(self, array: Array) -> Array:
        """Return a kernel as (taps, outputs, inputs), a view where that is possible."""
        moved = np.transpose(array, self._order(array.ndim))
        sizes = [math.prod(array.shape[axis] for axis in axes) for axes in self._axes(array.ndim)]
        return moved.reshape(sizes)

    def kernel(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """Return what `matrices` made of a kernel of this shape, as a kernel."""
        order = self._order(len(shape))
        moved = matrices.reshape([shape[axis] for axis in order])
        return np.ascontiguousarray(np.transpose(moved, np.argsort(order)))  # as files hold them

    def _axes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        inputs, outputs = (tuple(axis % rank for axis in a) for a in (self.inputs, self.outputs))
        taps = tuple(axis for axis in range(rank) if axis not in inputs + outputs)
        return taps, outputs, inputs

    def _order(self, rank: int) -> list[int]:
        return [axis for axes in self._axes(rank) for axis in axes]


@dataclasses.dataclass(frozen=True)
class Member:
    """The units of a kernel's weights.

    Args:
        units: int, of a shape that broadcasts to the kernel's; -1 where a weight has none.
        own: whether the kernel makes these units, so that one without a weight here is dead. Else
            it reads them.
    """

    units: Array
    own: bool = True


@dataclasses.dataclass(frozen=True)
class Units:
    """Blocks or channels, numbered, in the order of their ties: each lives or dies as a whole.

    Args:
        sets: {name: numbers of units}, ascending: those that compete under scope "layer". The name
            is the path of a kernel that makes them.
        members: {kernel path: its Members}. A weight lives while all of its units do.
    """

    sets: Mapping[str, Array]
    members: Mapping[str, tuple[Member, ...]]

    @functools.cached_property
    def count(self) -> int:
        """The number of units."""
        return sum(len(units) for units in self.sets.values())

    @functools.cached_property
    def makers(self) -> dict[str, list[str]]:
        """{set: paths of the kernels that make its units}."""
        set_of = np.empty(self.count, int)
        for number, units in enumerate(self.sets.values()):
            set_of[units] = number
        names, found = list(self.sets), {name: dict[str, None]() for name in self.sets}
        for path, members in self.members.items():
            for member in members:
                units = member.units[member.units >= 0] if member.own else np.zeros(0, int)
                for number in np.unique(set_of[units]):
                    found[names[number]][path] = None
        return {name: list(paths) for name, paths in found.items()}

    def alive(self, masks: Masks) -> Masks:
        """Return {set: bool (units,)}: whether a kernel that makes a unit has a weight of it."""
        found = np.zeros(self.count, bool)
        for _, units, _ in self._weights(masks, own=True):
            found[units] = True
        return {name: found[units] for name, units in self.sets.items()}

    def pooled(self, scores: Weights, masks: Masks, pool: str) -> Weights:
        """Return {set: float64 (units,)}: the scores of each unit's surviving weights, pooled."""
        sums, counts = np.zeros(self.count), np.zeros(self.count)
        for path, units, mask in self._weights(masks):
            values = scores[path][mask].astype(np.float64)
            values = values**2 if pool == "l2" else values
            sums += np.bincount(units, values, self.count)
            counts += np.bincount(units, minlength=self.count)
        if pool == "mean":
            sums /= np.maximum(counts, 1)
        elif pool == "l2":
            sums = np.sqrt(sums)
        return {name: sums[units] for name, units in self.sets.items()}

    def without(self, masks: Masks, kept: Masks) -> Masks:
        """Return new masks, without the weights of the units that {set: bool (units,)} lacks."""
        lives = np.ones(self.count + 1, bool)  # the last one stands for "no unit"
        for name, units in self.sets.items():
            lives[units] = kept[name]
        pruned = {path: mask.copy() for path, mask in masks.items()}
        for path, members in self.members.items():
            for member in members if path in pruned else ():
                pruned[path] &= lives[member.units]
        return pruned

    def _weights(self, masks: Masks, *, own: bool = False) -> Iterator[tuple[str, Array, Array]]:
        """Yield (path, units of surviving weights, mask of these weights)."""
        for path, members in self.members.items():
            for member in members if path in masks else ():
                if member.own or not own:
                    units = np.broadcast_to(member.units, masks[path].shape)
                    mask = masks[path] & (units >= 0)
                    yield path, units[mask], mask


@dataclasses.dataclass(frozen=True)
class Structure:
    """A Pattern on the kernels of a network.

    Args:
        pattern: Pattern.
        pool: how the scores of the weights in a block or channel make its own: "sum", "mean" or
            "l2", the root of the sum of squares.
        layouts: {kernel path: Layout, or why it has none}; others are (..., inputs, outputs).
        channels: the Units of a network, of the pattern "channel" alone; also of kernels that do
            not compete.
        left: {kernel path: why its channels stay}.

    Raises:
        InputError: an unknown pool.
    """

    pattern: Pattern
    pool: str = "sum"
    layouts: Mapping[str, Layout | str] = dataclasses.field(default_factory=dict)
    channels: Units | None = None
    left: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise InputError(f"pool: expected one of {POOLS}. Received: {self.pool!r}")

    @property
    def size(self) -> int:
        """The weights of a block; 1 for channels, which count as they are."""
        return self.pattern.n * self.pattern.m

    def kept_of(self, density: float | None) -> int:
        """Return how many of every `m` inputs a pruning keeps: `n`, or more on the way there.

        Raises:
            InputError: a density below n / m.
        """
        n, m = self.pattern.n, self.pattern.m
        if density is None:
            return n
        if round(density * m, 6) < n:
            raise InputError(
                f"density: structure={self.pattern} leaves {n / m:g} of the weights. Received: "
                f"{density:g}. Leave density out, or use another pattern."
            )
        return math.ceil(round(density * m, 6))

    def layout(self, path: str, shape: tuple[int, ...]) -> Layout:
        """Return the layout of a kernel that the pattern fits on.

        Raises:
            InputError: the kernel has none, or an axis is no multiple.
        """
        found = self.layouts.get(path, Layout())
        outputs, inputs = (1, self.pattern.m)
        if self.pattern.kind == BLOCKS:
            outputs = self.pattern.n
        if isinstance(found, str) or len(shape) < 2:
            reason = found if isinstance(found, str) else "it is a vector"
        else:
            _, *sizes = found.matrices(np.empty(shape, bool)).shape
            reason = "; ".join(
                f"its {count} {name} are not a multiple of {part}"
                for name, count, part in zip(
                    ("outputs", "inputs"), sizes, (outputs, inputs), strict=True
                )
                if count % part
            )
            if not reason:
                return found
        raise InputError(
            f"structure={self.pattern} does not fit {path} of shape {shape}: {reason}. Leave the "
            f"layer dense: keep_dense=({path!r},) where you prune, or exclude= where you mask."
        )

    def keep_in_groups(
        self, scores: Weights, masks: Masks, paths: Iterable[str], count: int
    ) -> tuple[Masks, float, float]:
        """Keep the `count` highest scores among every `m` inputs.

        Returns:
            (new masks, the largest score removed, the smallest kept; infinite if there is none).
        """
        pruned, removed, kept = dict(masks), [-math.inf], [math.inf]
        for path in paths:
            layout, shape = self.layout(path, masks[path].shape), masks[path].shape
            matrices = layout.matrices(masks[path])
            alive = matrices.reshape(-1, self.pattern.m)
            values = layout.matrices(scores[path]).reshape(alive.shape)
            order = np.lexsort((values, alive))  # dead ones first, then the lowest scores
            keep = alive.copy()
            np.put_along_axis(keep, order[:, : self.pattern.m - count], False, axis=1)
            removed.append(values[alive & ~keep].max(initial=-math.inf))
            kept.append(values[keep].min(initial=math.inf))
            pruned[path] = layout.kernel(keep.reshape(matrices.shape), shape)
        return pruned, float(max(removed)), float(min(kept))

    def groups_of(self, path: str, mask: Array) -> Array:
        """Return the survivors among every `m` inputs of a kernel: int (groups,)."""
        matrices = self.layout(path, mask.shape).matrices(mask)
        return matrices.reshape(-1, self.pattern.m).sum(1)

    def units(self, masks: Masks, paths: Iterable[str]) -> Units:
        """Return the blocks or channels of the kernels that compete."""
        paths = list(paths)
        if self.pattern.kind == BLOCKS:
            return self._blocks({path: masks[path].shape for path in paths})
        if self.channels is None:
            raise InputError("structure=channel: expected the channels of a model's graph.")
        found = _competing(self.channels, paths)
        if not found.sets:
            raise InputError(
                "structure=channel: there are no channels to prune: those of the network's "
                "outputs, and of layers that are kept dense or cannot be resolved, stay."
            )
        return found

    def _blocks(self, shapes: Mapping[str, tuple[int, ...]]) -> Units:
        sets, members, begin = {}, {}, 0
        outputs, inputs = self.pattern.n, self.pattern.m
        for path, shape in shapes.items():
            layout = self.layout(path, shape)
            taps, *sizes = layout.matrices(np.empty(shape, bool)).shape
            grid = taps, sizes[0] // outputs, sizes[1] // inputs
            numbers = np.arange(math.prod(grid)).reshape(grid)
            numbers = layout.kernel(numbers.repeat(outputs, 1).repeat(inputs, 2), shape)
            numbers = _in_order(numbers, math.prod(grid))
            sets[path] = begin + np.arange(math.prod(grid))
            members[path] = (Member(begin + numbers),)
            begin += math.prod(grid)
        return Units(sets, members)


def _in_order(numbers: Array, count: int) -> Array:
    """Return numbers 0 to count - 1 anew, by the flat index of the first place of each."""
    flat = numbers.ravel()
    first = np.empty(count, int)
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # the last one that is written is the first
    rank = np.empty(count, int)
    rank[np.argsort(first)] = np.arange(count)
    return rank[numbers]


def _competing(channels: Units, paths: list[str]) -> Units:
    """Return the channels all of whose makers are among the kernels that compete, numbered anew."""
    free = np.ones(channels.count, bool)
    for path, members in channels.members.items():
        for member in members:
            if member.own and path not in paths:
                free[member.units[member.units >= 0]] = False
    rank = np.full(channels.count + 1, -1)  # the last one stands for "no unit"
    rank[:-1][free] = np.arange(np.count_nonzero(free))
    sets = {name: rank[units[free[units]]] for name, units in channels.sets.items()}
    return Units(
        {name: units for name, units in sets.items() if len(units)},
        {
            path: tuple(Member(rank[one.units], one.own) for one in members)
            for path, members in channels.members.items()
            if path in paths
        },
    )
