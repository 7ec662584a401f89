"""How many weights of which layers a pruning leaves: exact counts. NumPy only."""

import dataclasses
import fnmatch
import math
import numbers
from collections.abc import Iterable, Mapping

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning.arrays import Array, Masks
from lottery_tf.pruning.structure import CHANNEL, N_OF_M, Structure, Units

SCOPES = ("global", "layer", "erk", "output")


@dataclasses.dataclass(frozen=True)
class SparsityTarget:
    """How much is pruned, and where.

    Args:
        fraction: part of the survivors to remove, in (0, 1); of each layer under scope "layer".
        density: in place of a fraction: remaining / prunable weights of the whole network to leave,
            in (0, 1), layers that are kept dense among them.
        scope: "global", scores compete over all layers (those of channels as multiples of the mean
            of the channels that the same layers make and read); "layer", in each layer; "erk", in
            each, to a density in proportion to (sum of its dimensions) / (product of them), at most
            1 (Evci et al. 2020); "output", in each output unit of each layer, which all keep the
            same part of their inputs (Sun et al. 2023).
        layer_fractions: {layer: fraction} of layers with one of their own, under scope "layer" or
            "output".
        keep_dense: layers that are not pruned.
        min_layer_weights: weights that each layer keeps at least: those with its highest scores; of
            structure "channel", channels.
        structure: of what lives and dies together; None: weights one by one. An N:M pattern itself
            says how much is left, of every M inputs; a higher density is one on the way there. Of
            blocks and channels a fraction is of those that survive; a density of blocks is that of
            the weights, to the nearest block, and a density of channels that of the channels that
            compete.
        output_axes: {kernel path: axes that tell output units apart}, for scope "output". Default:
            the last axis.

    A layer is named by the path of its kernel, by a part of it ("logits" of "logits/kernel"), or by
    a pattern of that path or of a layer's ("block_1*", "*_1").

    Raises:
        InputError: a value out of bounds, or two that do not go together.
    """

    fraction: float | None = None
    density: float | None = None
    scope: str = "global"
    layer_fractions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    keep_dense: tuple[str, ...] = ()
    min_layer_weights: int = 0
    structure: Structure | None = None
    output_axes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.structure is not None and self.structure.pattern.kind == N_OF_M:
            self._check_pattern(self.structure)
        elif (self.fraction is None) == (self.density is None):
            raise InputError("Expected a fraction to prune or a density to leave: one of them.")
        self._check_types()
        parts = {"fraction": self.fraction, "density": self.density, **self.layer_fractions}
        for name, value in parts.items():
            if value is not None and not (isinstance(value, numbers.Real) and 0 < value < 1):
                raise InputError(f"{name}: expected a number in (0, 1). Received: {value!r}")
        if self.scope not in SCOPES:
            raise InputError(f"scope: expected one of {SCOPES}. Received: {self.scope}")
        if self.scope == "output" and self.structure is not None:
            raise InputError(
                "scope: output does not go with a structure; expected global or layer."
            )
        in_layers = self.scope in ("layer", "output")
        if self.layer_fractions and (not in_layers or self.fraction is None):
            raise InputError(
                "layer_fractions: expected scope=layer or scope=output, and a fraction for the "
                "other layers."
            )

    def _check_pattern(self, structure: Structure) -> None:
        left = structure.pattern.n / structure.pattern.m
        given = {"fraction": self.fraction, "density": self.density}
        if (self.fraction is not None and self.fraction != 1 - left) or None not in given.values():
            raise InputError(
                f"structure={structure.pattern} itself says that a part of {left:g} is left: leave "
                f"fraction and density out. Received: {given}"
            )
        useless = {"layer_fractions": self.layer_fractions, "scope": self.scope != "global",
                   "min_layer_weights": self.min_layer_weights}  # fmt: skip
        if names := [name for name, value in useless.items() if value]:
            raise InputError(
                f"{names[0]} does nothing beside structure={structure.pattern}, which says what "
                "each layer keeps: leave it out."
            )

    def _check_types(self) -> None:
        if not isinstance(self.layer_fractions, Mapping):
            raise InputError(
                "layer_fractions: expected {layer: fraction}, as {'logits': 0.1}. Received: "
                f"{self.layer_fractions!r}"
            )
        names = self.keep_dense  # a text would be taken for names of one letter
        if not isinstance(names, tuple | list) or not all(isinstance(n, str) for n in names):
            raise InputError(
                f"keep_dense: expected names in a tuple, as ('logits',). Received: {names!r}"
            )
        least = self.min_layer_weights
        if not isinstance(least, numbers.Integral) or least < 0:
            raise InputError(
                f"min_layer_weights: expected a whole number, at least 0. Received: {least!r}"
            )


@dataclasses.dataclass(frozen=True)
class Group:
    """Kernels whose scores compete, and how many of their weights survive.

    Of blocks and channels: sets of Units, and how many units survive.
    Where there are output axes, the scores of its one kernel compete inside each output unit.
    """

    paths: list[str]
    alive: int
    left: int
    output_axes: tuple[int, ...] | None = None

    def after(self, part: float) -> int:
        """Return the survivors after a part of the pruning, from 0 to 1: a geometric series."""
        if part == 1 or not self.alive:
            return self.left
        return round(self.alive * (self.left / self.alive) ** part)


def competing(target: SparsityTarget, masks: Masks) -> list[str]:
    """Return the paths of the kernels that are not kept dense.

    Raises:
        InputError: a name of a layer that none has, or all layers kept dense.
    """
    dense = {path for name in target.keep_dense for path in matching(name, masks)}
    if paths := [path for path in masks if path not in dense]:
        return paths
    raise InputError("keep_dense: expected a layer or more to be left for pruning.")


def allocate(target: SparsityTarget, masks: Masks, units: Units | None = None) -> list[Group]:
    """Return the groups that a pruning competes in, with the exact numbers of their survivors.

    Of n survivors round-half-even(fraction * n) are removed; of N weights round-half-even(density *
    N) are left. No layer gets back what it has lost.

    Args:
        target: SparsityTarget.
        masks: {kernel path: bool array}.
        units: those of the target's structure, where they are at hand.

    Raises:
        InputError: a name of a layer that none has, all layers kept dense, a density that cannot be
            reached, or a layer that the structure does not fit.
    """
    paths, structure = competing(target, masks), target.structure
    if structure is None:
        alive = {path: int(masks[path].sum()) for path in paths}
        shapes = {path: masks[path].shape for path in paths}
        sizes = {path: float(math.prod(shape)) for path, shape in shapes.items()}
        wide = {path: float(sum(shape)) for path, shape in shapes.items()}
        makers = {path: [path] for path in paths}
    elif structure.pattern.kind == N_OF_M:
        kept = structure.kept_of(target.density)
        groups = {path: structure.groups_of(path, masks[path]) for path in paths}
        return [
            Group([path], int(alive.sum()), int(alive.clip(max=kept).sum()))
            for path, alive in groups.items()
        ]
    else:
        units = units or structure.units(masks, paths)
        alive = {name: int(found.sum()) for name, found in units.alive(masks).items()}
        sizes = {name: float(len(found)) for name, found in units.sets.items()}
        makers = units.makers
        wide = {}
        for name, kernels in makers.items():
            shapes = {path: masks[path].shape for path in kernels}
            weights = sum(map(math.prod, shapes.values()))
            wide[name] = sizes[name] * sum(map(sum, shapes.values())) / weights
    axes: dict[str, tuple[int, ...] | None] = dict.fromkeys(alive)
    if target.scope == "output":
        axes |= {path: target.output_axes.get(path, (-1,)) for path in paths}
    if target.scope in ("layer", "output") and target.fraction is not None:
        of_layer = dict.fromkeys(paths, target.fraction)
        for name, fraction in target.layer_fractions.items():
            of_layer |= dict.fromkeys(matching(name, paths), fraction)
        parts = {name: of_layer[kernels[0]] for name, kernels in makers.items()}
        return [
            Group([name], count, count - share(parts[name], count), axes[name])
            for name, count in alive.items()
        ]
    left = _left(target, masks, paths, alive, sizes)
    if target.scope == "global":
        return [Group(list(alive), sum(alive.values()), left)]
    wish = _erk(sizes, wide, left) if target.scope == "erk" else sizes
    counts = in_proportion(wish, alive, left)
    return [Group([name], count, counts[name], axes[name]) for name, count in alive.items()]


def in_equal_parts(alive: Array, left: int) -> Array:
    """Share `left` survivors out to units in proportion to what is alive in each: (units,).

    The sum is exact. What does not divide goes to the largest remainders, the first of equal ones.
    """
    total = max(int(alive.sum()), 1)
    counts, remainders = np.divmod(alive * left, total)
    first = np.argsort(-remainders, kind="stable")[: left - int(counts.sum())]
    counts[first] += 1
    return counts


def density_of(target: SparsityTarget, masks: Masks) -> float:
    """Return the density that masks have, as a target counts it: of weights, or of channels."""
    structure = target.structure
    if structure is not None and structure.pattern.kind == CHANNEL:
        units = structure.units(masks, competing(target, masks))
        return sum(int(alive.sum()) for alive in units.alive(masks).values()) / units.count
    return sum(int(m.sum()) for m in masks.values()) / sum(m.size for m in masks.values())


def _left(
    target: SparsityTarget,
    masks: Masks,
    paths: list[str],
    alive: Mapping[str, int],
    sizes: Mapping[str, float],
) -> int:
    """Return how many of the weights, blocks or channels that compete survive."""
    total, structure = sum(alive.values()), target.structure
    if target.fraction is not None:
        return total - share(target.fraction, total)
    assert target.density is not None, "a target has a fraction or a density"
    if structure is not None and structure.pattern.kind == CHANNEL:
        left = share(target.density, int(sum(sizes.values())))
    else:
        dense = sum(int(mask.sum()) for path, mask in masks.items() if path not in paths)
        left = share(target.density, sum(mask.size for mask in masks.values())) - dense
        if structure is not None and left > 0:
            left = round(left / structure.size)
    if left < 0:
        raise InputError(
            f"density: {target.density:g} cannot be reached: the layers that are kept dense hold "
            "more. Name fewer of them in keep_dense, or ask for a higher density."
        )
    if left > total:
        raise InputError(
            f"density: {target.density:g} is above the density that the network has; pruned "
            "weights do not come back."
        )
    return left


def share(fraction: float, count: int) -> int:
    """round-half-even(fraction * count), of the decimal that the user wrote.

    The binary neighbour of 0.145 would make of 100 another count than the even one of 14.5.
    """
    import fractions  # here: `--help` needs none

    return round(fractions.Fraction(repr(float(fraction))) * count)


def matching(name: str, paths: Iterable[str]) -> list[str]:
    """Return the kernel paths that a layer's name or pattern means; InputError if it means none."""
    paths = list(paths)
    found = [path for path in paths if is_named(name, path)]
    if not found:
        raise InputError(f"There is no layer {name} to prune. The kernels are: {', '.join(paths)}")
    return found


def is_named(name: str, path: str) -> bool:
    """Return whether a name means a kernel: part of its path, or a pattern of it or its layers'."""
    parts = path.split("/")
    paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return name in parts or any(fnmatch.fnmatch(one, name) for one in [path, *paths])


def _erk(sizes: Mapping[str, float], wide: Mapping[str, float], left: int) -> dict[str, float]:
    """Return {path: wished survivors} by the Erdős-Rényi kernel rule; a layer is dense at most.

    Args:
        sizes: {path: number of weights}.
        wide: {path: sum of the kernel's dimensions}.
        left: survivors of all together.
    """
    full: set[str] = set()
    while True:
        rest = left - sum(sizes[path] for path in full)
        free = {path: wide[path] for path in sizes if path not in full}
        scale = rest / sum(free.values()) if free else 0.0
        over = {path for path, dimensions in free.items() if scale * dimensions > sizes[path]}
        if not over:
            return {p: sizes[p] if p in full else scale * free[p] for p in sizes}
        full |= over


def in_proportion(wish: Mapping[str, float], alive: Mapping[str, int], left: int) -> dict[str, int]:
    """Share `left` survivors in proportion to a wish, none above what is alive: {path: count}."""
    counts, free, rest = {}, dict(wish), left
    while True:
        scale = rest / sum(free.values()) if free else 0.0
        over = [path for path in free if scale * free[path] >= alive[path]]
        if not over:
            break
        for path in over:
            counts[path] = alive[path]
            rest -= alive[path]
            del free[path]
    exact = {path: scale * wished for path, wished in free.items()}
    counts |= {path: math.floor(value) for path, value in exact.items()}
    by_remainder = sorted(exact, key=lambda path: math.floor(exact[path]) - exact[path])
    for path in by_remainder[: left - sum(counts.values())]:
        counts[path] += 1
    return {path: counts[path] for path in wish}
