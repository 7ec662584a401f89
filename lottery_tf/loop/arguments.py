"""The arguments of `rounds`, checked as a whole before round 0 trains."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.loop import calibration, checks, scoring
from lottery_tf.loop.initialization import FRESH, initialization
from lottery_tf.pruning import streams
from lottery_tf.pruning.allocation import SparsityTarget, allocate, density_of
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.pruning.resets import RESETS
from lottery_tf.pruning.structure import N_OF_M, Pattern

TO_REWIND = ("rewind", "lr_rewind")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of `rounds`; `where` holds those of a SparsityTarget."""

    model: keras.Model
    rounds: int
    fraction: float | None
    densities: Sequence[float]
    target_density: float | None
    reset: str
    rewind_to: int
    seed: int
    criterion: Criterion
    sample: scoring.Sample | None
    iterations: int | None
    where: Mapping[str, Any]
    first_density: float | None = None  # of round 0, where a directory has it

    def check(self) -> list[SparsityTarget]:
        """Return the SparsityTarget of the pruning after each round.

        There is one for each round but the last; with a fraction, also for the last.

        Raises:
            InputError: a value is of the wrong type or out of bounds, a name is unknown, or
                something that a later round needs cannot be had.
        """
        checks.check_model(self.model, "rounds")
        checks.check_all_built(self.model)
        checks.whole_number(1, rounds=self.rounds)
        if isinstance(self.rewind_to, str):
            raise InputError(
                "rewind_to: expected a number of updates, as 100; an epoch has "
                f"ceil(examples / batch_size) of them. Received: {self.rewind_to!r}"
            )
        checks.whole_number(0, rewind_to=self.rewind_to)
        checks.whole_number(0, below=streams.SEEDS, seed=self.seed)
        self._check_reset()
        checks.check_scoring(self.model, self.criterion, self.sample, self.iterations)
        targets, masks = self._targets(), checks.prunable(self.model)
        if self.first_density is not None:  # the masks of the model may be those of a later round
            masks = {path: np.ones_like(mask) for path, mask in masks.items()}
        for target in targets:
            allocate(target, masks)  # knows the names of layers
            calibration.check_layers(self.model, self.criterion, target.keep_dense)
        scoring.check_gradients(self.model, self.criterion, self.sample)
        if self.reset in FRESH:
            initialization(self.model, masking.get_weights(self.model), self.seed, 1)
        return targets

    def _check_reset(self) -> None:
        if self.reset not in list(RESETS):  # whatever it is, without a hash
            raise InputError(
                f"reset: expected one of {', '.join(RESETS)}. Received: {self.reset!r}"
            )
        if self.reset == "rewind" and self.rewind_to < 1:
            raise InputError(f"rewind_to: expected a step, at least 1. Received: {self.rewind_to}")
        if self.rewind_to and self.reset not in TO_REWIND:
            raise InputError(
                f"rewind_to: it says where reset={' or '.join(TO_REWIND)} goes to; "
                f"reset={self.reset} does without. Leave one of them out."
            )

    def _targets(self) -> list[SparsityTarget]:
        densities = self.densities_of_rounds()
        if not densities and self.fraction is None and self.rounds == 1:
            return []
        if not densities:
            return [checks.make_target(self.model, self.fraction, None, self.where)] * self.rounds
        return [checks.make_target(self.model, self.fraction, one, self.where) for one in densities]

    def densities_of_rounds(self) -> list[float]:
        """Return the densities of the rounds after the first; [] where a fraction says how much."""
        if self.target_density is not None:
            return self._geometric(self.target_density)
        densities = self.densities
        if isinstance(densities, str) or not hasattr(densities, "__len__"):
            raise InputError(f"densities: expected a list, as [0.5, 0.2]. Received: {densities!r}")
        densities = list(densities) or self._densities_of_pattern()
        if densities and len(densities) != self.rounds - 1:
            raise InputError(
                f"densities: expected {self.rounds - 1}, one for each round after the first. "
                f"Received: {len(densities)}"
            )
        for one in densities:  # of the right kind, before they are compared
            checks.make_target(self.model, None, one, self.where)
        self._check_pattern(densities)
        if sorted(set(densities), reverse=True) != densities:
            raise InputError(f"densities: expected numbers that fall. Received: {densities}")
        return densities

    def _pattern(self) -> Pattern | None:
        structure = self.where.get("structure")
        return structure.pattern if structure and structure.pattern.kind == N_OF_M else None

    def _densities_of_pattern(self) -> list[float]:
        """Return the density of an N:M pattern, where nothing else says how much is left."""
        if (pattern := self._pattern()) is None or self.fraction is not None or self.rounds < 2:
            return []
        if self.rounds > 2:
            raise InputError(
                f"rounds: structure={pattern} is reached by one pruning, in 2 rounds. For more, "
                f"pass the densities on the way, as densities={pattern.densities}. Received: "
                f"{self.rounds}"
            )
        return pattern.densities[-1:]

    def _check_pattern(self, densities: list[float]) -> None:
        pattern = self._pattern()
        if pattern and densities and not pattern.leads_to(densities):
            raise InputError(
                f"densities: structure={pattern} ends at {pattern.densities[-1]:g}. Received: "
                f"{densities}"
            )

    def _geometric(self, target: float) -> list[float]:
        """Return densities that fall by the same part in each round, to `target_density`."""
        first = self.first_density
        if first is None:
            first = density_of(
                checks.make_target(self.model, None, target, self.where),
                checks.prunable(self.model),
            )
        checks.make_target(self.model, None, target, self.where)  # of the right kind
        if self.fraction is not None or len(self.densities) or self.rounds < 2:
            raise InputError(
                "target_density needs at least two rounds, and excludes fraction and densities."
            )
        if target >= first:
            raise InputError(
                f"target_density: expected less than the density {first:g} that {self.model.name} "
                f"has. Received: {target}"
            )
        steps = self.rounds - 1
        return [first * (target / first) ** (step / steps) for step in range(1, steps)] + [target]
