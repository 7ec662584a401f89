"""How many weights of which layers a pruning leaves: exact counts. NumPy only."""

import dataclasses
import fnmatch
import fractions
import math
import numbers
from collections.abc import Iterable, Mapping

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, Masks

Shapes = Mapping[str, tuple[int, ...]]
SCOPES = ("global", "layer", "erk", "output")


@dataclasses.dataclass(frozen=True)
class SparsityTarget:
    """How much is pruned, and where.

    Args:
        fraction: part of the survivors to remove, in (0, 1); of each layer under scope "layer".
        density: in place of a fraction: remaining / prunable weights of the whole network to leave,
            in (0, 1), layers that are kept dense among them.
        scope: "global", scores compete over all layers; "layer", in each layer; "erk", in each,
            to a density in proportion to (sum of its dimensions) / (product of them), at most 1
            (Evci et al. 2020); "output", in each output unit of each layer, which all keep the same
            part of their inputs (Sun et al. 2023).
        layer_fractions: {layer: fraction} of layers with one of their own, under scope "layer" or
            "output".
        keep_dense: layers that are not pruned.
        min_layer_weights: weights that each layer keeps at least: those with its highest scores.
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
    output_axes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.density is None):
            raise InputError("Expected a fraction to prune or a density to leave: one of them.")
        self._check_types()
        parts = {"fraction": self.fraction, "density": self.density, **self.layer_fractions}
        for name, value in parts.items():
            if value is not None and not (isinstance(value, numbers.Real) and 0 < value < 1):
                raise InputError(f"{name}: expected a number in (0, 1). Received: {value!r}")
        if self.scope not in SCOPES:
            raise InputError(f"scope: expected one of {SCOPES}. Received: {self.scope}")
        in_layers = self.scope in ("layer", "output")
        if self.layer_fractions and (not in_layers or self.fraction is None):
            raise InputError(
                "layer_fractions: expected scope=layer or scope=output, and a fraction for the "
                "other layers."
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


def allocate(amount: SparsityTarget, masks: Masks) -> list[Group]:
    """Return the groups that a pruning competes in, with the exact numbers of their survivors.

    Of n survivors round-half-even(fraction * n) are removed; of N weights round-half-even(density *
    N) are left. No layer gets back what it has lost.

    Raises:
        InputError: a name of a layer that none has, all layers kept dense, or a density that
            cannot be reached.
    """
    dense = {path for name in amount.keep_dense for path in matching(name, masks)}
    paths = [path for path in masks if path not in dense]
    if not paths:
        raise InputError("keep_dense: expected a layer or more to be left for pruning.")
    alive = {path: int(mask.sum()) for path, mask in masks.items()}
    total = sum(alive[path] for path in paths)
    axes: dict[str, tuple[int, ...] | None] = dict.fromkeys(paths)
    if amount.scope == "output":
        axes |= {path: amount.output_axes.get(path, (-1,)) for path in paths}
    if amount.scope in ("layer", "output") and amount.fraction is not None:
        parts = dict.fromkeys(paths, amount.fraction)
        for name, fraction in amount.layer_fractions.items():
            parts |= dict.fromkeys(matching(name, paths), fraction)
        return [
            Group([path], alive[path], alive[path] - share(parts[path], alive[path]), axes[path])
            for path in paths
        ]
    left = _left(amount, masks, total, sum(alive[path] for path in dense))
    if amount.scope == "global":
        return [Group(paths, total, left)]
    shapes = {path: masks[path].shape for path in paths}
    wish = _erk(shapes, left) if amount.scope == "erk" else _uniform(shapes)
    counts = _in_proportion(wish, {path: alive[path] for path in paths}, left)
    return [Group([path], alive[path], counts[path], axes[path]) for path in paths]


def in_equal_parts(alive: Array, left: int) -> Array:
    """Share `left` survivors out to units in proportion to what is alive in each: (units,).

    The sum is exact. What does not divide goes to the largest remainders, the first of equal ones.
    """
    total = max(int(alive.sum()), 1)
    counts, remainders = np.divmod(alive * left, total)
    first = np.argsort(-remainders, kind="stable")[: left - int(counts.sum())]
    counts[first] += 1
    return counts


def _left(target: SparsityTarget, masks: Masks, total: int, dense: int) -> int:
    """Return how many of the `total` weights that compete survive."""
    if target.fraction is not None:
        return total - share(target.fraction, total)
    assert target.density is not None, "a target has a fraction or a density"
    left = share(target.density, sum(mask.size for mask in masks.values())) - dense
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


def _uniform(shapes: Shapes) -> dict[str, float]:
    """Return {path: number of weights}; survivors in proportion to it make equal densities."""
    return {path: float(math.prod(shape)) for path, shape in shapes.items()}


def _erk(shapes: Shapes, left: int) -> dict[str, float]:
    """Return {path: wished survivors} by the Erdős-Rényi kernel rule; a layer is dense at most."""
    sizes = _uniform(shapes)
    full: set[str] = set()
    while True:
        rest = left - sum(sizes[path] for path in full)
        free = {path: float(sum(shapes[path])) for path in shapes if path not in full}
        scale = rest / sum(free.values()) if free else 0.0
        over = {path for path, dimensions in free.items() if scale * dimensions > sizes[path]}
        if not over:
            return {p: sizes[p] if p in full else scale * free[p] for p in shapes}
        full |= over


def _in_proportion(
    wish: Mapping[str, float], alive: Mapping[str, int], left: int
) -> dict[str, int]:
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
