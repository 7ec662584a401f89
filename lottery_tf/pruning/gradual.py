"""When a training is pruned on the way, and to which density. NumPy only.

A step counts updates by the optimizer: what is due at step s happens after s updates, before the
next one.
"""

import dataclasses
import decimal
import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from lottery_tf.errors import InputError


def polynomial(way: float) -> float:
    """1 - (1 - way)^3 (Zhu & Gupta 2017, equation 1)."""
    return 1 - (1 - way) ** 3


def constant(way: float) -> float:
    """1: all at the first step."""
    return 1.0


def cosine(way: float) -> float:
    """Half a cosine, slow at both ends."""
    return (1 - math.cos(math.pi * way)) / 2


def one_cycle(way: float) -> float:
    """A logistic curve, steep at 3/7 of the way (Hubens et al. 2022, with alpha 14 and beta 6)."""
    return (1 + math.exp(-8)) / (1 + math.exp(6 - 14 * way))


# A curve says which part of the pruning is done after a part of the way, both from 0 to 1.
CURVES: dict[str, Callable[[float], float]] = {
    "polynomial": polynomial,
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
}
Schedule = str | Callable[[int], Any]  # a key of CURVES, or a function of the step


@dataclasses.dataclass(frozen=True)
class DensitySchedule:
    """The steps at which a training is pruned, and the density to prune to at each.

    Args:
        begin, end: the first step, and the one after which none follows.
        frequency: steps between two prunings.
        density_at: a function of a step at which pruning is due: the density; None: no pruning.
    """

    begin: int
    end: int
    frequency: int
    density_at: Callable[[int], float | None]

    @property
    def steps(self) -> range:
        """The steps at which pruning is due."""
        return range(self.begin, self.end + 1, self.frequency)

    @property
    def last(self) -> int:
        """The last of them."""
        return self.steps[-1]

    def due(self, step: int) -> int | None:
        """Return the last step at which pruning was due, up to and with this one; None before."""
        if step < self.begin:
            return None
        return self.steps[min(step - self.begin, self.last - self.begin) // self.frequency]

    def next(self, step: int) -> int | None:
        """Return the first step after this one at which pruning is due; None after the last."""
        if step < self.begin:
            return self.begin
        due = self.begin + ((step - self.begin) // self.frequency + 1) * self.frequency
        return due if due <= self.last else None

    def densities(self) -> dict[int, float]:
        """Return {step: density to prune to}, without the steps that would remove nothing."""
        found = {step: self.density_at(step) for step in self.steps}
        return {step: one for step, one in found.items() if one is not None and one < 1}


def make(
    schedule: Schedule,
    *,
    density: float | None,
    begin: int,
    end: int,
    frequency: int | None = None,
    initial_density: float = 1.0,
) -> DensitySchedule:
    """Return the DensitySchedule of a curve between two densities, or of a function of the step.

    Args:
        schedule: a key of CURVES. Or a function of the step that returns the density, or as the
            schedules of tensorflow_model_optimization (whether it is due, sparsity).
        density: that the last step reaches; None with a function.
        begin, end: the first step, and the one after which none follows.
        frequency: steps between two. Default: `default_frequency`.
        initial_density: that a curve falls from.

    Raises:
        InputError: the end comes before the begin, or a curve has no second step; an unknown curve.
    """
    if end < begin:
        raise InputError(
            f"begin_step and end_step: expected two steps, one after the other. Received: {begin} "
            f"and {end}"
        )
    every = frequency or default_frequency(begin, end)
    if callable(schedule):
        return DensitySchedule(begin, end, every, lambda step: _density(schedule(step), step))
    curve = CURVES.get(schedule) if isinstance(schedule, str) else None
    if curve is None:
        raise InputError(
            f"schedule: expected one of {', '.join(CURVES)}, or a function of the step. Received: "
            f"{schedule!r}"
        )
    assert density is not None, "a curve ends at a density"
    if schedule == "constant":  # further steps would remove nothing
        return DensitySchedule(begin, begin, every, lambda step: density)
    way = (end - begin) // every * every  # the last step reaches the density
    if not way:
        raise InputError(
            f"frequency: expected at most {end - begin}, the steps from begin_step to end_step, "
            f"and two steps or more. Received: {every}"
        )

    def density_at(step: int) -> float:
        return density + (initial_density - density) * (1 - curve((step - begin) / way))

    return DensitySchedule(begin, end, every, density_at)


def default_frequency(begin: int, end: int) -> int:
    """Return 100 steps, or a tenth of the way where that is less."""
    return max(1, min(100, (end - begin) // 10))


def _density(found: Any, step: int) -> float | None:
    """Return the density that a schedule of the user's returned; None where pruning is not due."""
    if isinstance(found, tuple) and len(found) == 2:
        is_due, sparsity = found
        # It computes in float32: of 0.9 the decimal is meant, not the nearest binary number.
        density = float(1 - decimal.Decimal(str(_number(sparsity))))
        return density if _number(is_due) else None
    value: Any = _number(found)
    is_number = isinstance(value, numbers.Real)
    if not is_number or not 0 < value <= 1:
        raise InputError(
            f"schedule: expected a density in (0, 1] at step {step}. Received: {found!r:.80}"
        )
    return float(value)


def _number(value: Any) -> Any:
    """Return a number of any library as NumPy's."""
    return np.asarray(value)[()]
