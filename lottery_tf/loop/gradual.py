"""`GradualPruning`: a callback that prunes while the user's `fit` trains."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import keras

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import checks, scoring
from lottery_tf.loop.mask_updates import MaskUpdates
from lottery_tf.loop.prune import Data
from lottery_tf.masking import optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer
from lottery_tf.pruning import Weights, criteria, gradual, streams
from lottery_tf.pruning.allocation import SparsityTarget, allocate, density_of
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.pruning.structure import N_OF_M, parse


class GradualPruning(MaskUpdates):
    """Prune a masked model step by step while `fit` trains it (Zhu & Gupta 2017).

        pruning = lottery_tf.GradualPruning(density=0.1, begin_step=500, end_step=5000)
        model.fit(images, labels, epochs=10, callbacks=[pruning])

    At every `frequency`-th step from `begin_step` to `end_step` the callback prunes the model to
    the density of the schedule, to the exact number of weights, and sets the optimizer's slots of
    pruned weights to zero. Pruned weights never return. Nothing is compiled again.

    A step is an update by the optimizer, as `optimizer.iterations` counts it. With gradient
    accumulation it is several batches; a batch whose float16 loss overflows is none. Under
    `steps_per_execution` the callback prunes once at the end of an execution, to the density of the
    last step that was due.

    Put the callback before all others. It writes "density" into the logs of `fit`, and only later
    callbacks (TensorBoard, BackupAndRestore) see it; History and the progress bar always do. A fit
    that BackupAndRestore resumes continues with its masks, and so does a second `fit` of the same
    model. In your own loop around `train_on_batch`, make
    `callbacks = keras.callbacks.CallbackList([pruning], model=model)` and call
    `callbacks.on_train_batch_end(step)` after each step.

    If `fit` ends before the schedule, a warning says that the density was not reached.

    Args:
        density: the part of the prunable weights that is left after the last pruning, in (0, 1).
        begin_step: the first step that prunes.
        end_step: the step of the last pruning. You may leave it out with schedule="constant".
        frequency: the number of steps between two prunings. Default: 100, or a tenth of the way
            from `begin_step` to `end_step` if that is less.
        schedule: the curve along which the density falls. "polynomial": a cubic (Zhu & Gupta 2017,
            equation 1). "constant": everything at `begin_step`. "cosine". "one_cycle" (Hubens et
            al. 2022). Or a function of the step that returns the density; leave `density` out
            then. Or a schedule of tensorflow_model_optimization; leave the density and the steps
            out then.
        initial_density: the density that the curve begins with.
        criterion: see `prune`. It is computed anew at each pruning.
        data: see `prune`.
        iterations: see `prune`.
        initial: {variable path: array}, the weights before training, for criteria that need them.
        seed: see `prune`.
        scope: see `prune`.
        keep_dense: see `prune`.
        min_layer_weights: see `prune`.
        structure: see `prune`. An N:M pattern fixes the density; on the way to it each group keeps
            a whole number of weights. With "channel", densities count channels.
        pool: see `prune`.
        optimizer: the optimizer whose updates are the steps. Default: that of the compiled model.

    Raises:
        InputError: when the callback is made, a value is out of bounds, or the end is before the
            begin. When `fit` begins, before anything trains: the model has no masks, a layer is
            unknown, the density is above that of the model, the schedule lies before or ends after
            the fit, the callback was used with another model, or the loss cannot be computed on the
            data.
    """

    def __init__(
        self,
        density: float | None = None,
        *,
        begin_step: int = 0,
        end_step: int | None = None,
        frequency: int | None = None,
        schedule: gradual.Schedule = "polynomial",
        initial_density: float = 1.0,
        criterion: Criterion = "magnitude",
        data: Data = None,
        iterations: int | None = None,
        initial: Weights | None = None,
        seed: int = 0,
        scope: str | None = None,
        keep_dense: Sequence[str] = (),
        min_layer_weights: int = 0,
        structure: str | tuple[int, int] | None = None,
        pool: str = "sum",
        optimizer: Optimizer | None = None,
    ):
        super().__init__(optimizer)
        self.structure, self.pool = structure, pool
        pattern = parse(structure)
        says = pattern.densities[-1] if pattern and pattern.kind == N_OF_M else None
        if density is None and not callable(schedule):
            density = says
        checks.whole_number(0, begin_step=begin_step)
        checks.whole_number(0, below=streams.SEEDS, seed=seed)
        for name, value in {"end_step": end_step, "frequency": frequency}.items():
            if value is not None:
                checks.whole_number(int(name == "frequency"), **{name: value})
        self.where = checks.where(scope, criterion, None, keep_dense, min_layer_weights)
        self.schedule = _schedule(
            schedule, density, begin_step, end_step, frequency, initial_density
        )
        # The density of a function is not known before it is called.
        self.first = density or says or 0.5
        self.final = density
        SparsityTarget(density=self.first, **self.where)
        self.criterion, self.iterations, self.seed = criterion, iterations, seed
        self.initial = initial
        self.sample = None if data is None else scoring.Sample(data)

    def prepare(self, model: keras.Model) -> None:
        structured = checks.structure_of(model, self.structure, self.pool, self.name)
        where = self.where | {"structure": structured}
        self.target = checks.make_target(model, None, self.first, where)
        if self.final is not None:
            allocate(self.target, checks.prunable(model))
        checks.check_scoring(model, self.criterion, self.sample, self.iterations)
        before = {name for name in criteria.needs(self.criterion) if name.startswith("initial")}
        if before and self.initial is None:
            raise InputError(
                f"criterion: {criteria.name_of(self.criterion)} needs the weights before training: "
                "pass initial=lottery_tf.masking.get_weights(model), taken before the first fit."
            )

    def plan(self, step: int, last: int | None) -> Sequence[int]:
        return self.schedule.steps

    def begin(self, step: int) -> None:
        self._gradients = functools.cache(
            functools.partial(scoring.gradients_of, self.model, self.sample)
        )
        masks = checks.prunable(self.model)
        if step > self.steps[-1] and all(mask.all() for mask in masks.values()):
            raise InputError(
                f"{self.name}: the optimizer of {self.model.name} has made {step} updates, and the "
                f"last pruning was due at step {self.steps[-1]}. Compile the model again, which "
                "begins with step 0, or give later steps."
            )
        scoring.check_gradients(self.model, self.criterion, self.sample, self._gradients)
        due = self.schedule.due(step)
        if due is not None:
            self.change(due)

    def change(self, due: int) -> None:
        density = self.schedule.density_at(due)
        before, trained = checks.prunable(self.model), masking.get_weights(self.model)
        structure = self.target.structure
        if density is not None and structure and structure.pattern.kind == N_OF_M:
            # Whole weights of each group, and not fewer than the pattern leaves.
            m, allowed = structure.pattern.m, structure.pattern.densities
            density = max(math.ceil(round(density * m, 6)) / m, allowed[-1])
        if density is None or density >= density_of(self.target, before):
            return
        start = trained if self.initial is None else self.initial
        masks, _ = pruning.prune(
            trained,
            before,
            dataclasses.replace(self.target, density=density),
            criterion=self.criterion,
            iterations=self.iterations,
            uniform=functools.partial(streams.uniform, self.seed, 0),
            **scoring.of_model(self.model, lambda: start, trained, self.sample, self._gradients),
        )
        checks.warn_of_death(before, masks, another=False, stacklevel=2)
        optimizer_state.set_masks(self.model, masks, self.optimizers)

    def on_train_end(self, logs: dict | None = None) -> None:
        step = self._updates()
        if not self._begins and step < self.schedule.last:
            asked = "" if self.final is None else f", and {self.final:.4g} was asked for"
            self._warn(
                f"fit ended after {step} updates, before the pruning that is due at step "
                f"{self.schedule.last}: the density is {self.density:.4g}{asked}."
            )


def _schedule(
    schedule: Any,
    density: float | None,
    begin: int,
    end: int | None,
    frequency: int | None,
    initial_density: float,
) -> gradual.DensitySchedule:
    """Return the schedule that the arguments of GradualPruning say."""
    if callable(schedule) and density is not None:
        raise InputError(
            f"density: a schedule that is a function returns it: leave it out. Received: {density}"
        )
    if callable(schedule) and hasattr(schedule, "begin_step"):  # of the toolkit
        if begin or end is not None or frequency is not None:
            raise InputError(
                "begin_step, end_step and frequency are those of the schedule: leave them out."
            )
        begin, end, frequency = schedule.begin_step, schedule.end_step, schedule.frequency
        end = begin if end < 0 else end  # a density that stays is reached at the first step
    elif not callable(schedule):
        if density is None:
            raise InputError("density: expected a number in (0, 1), the density to prune to.")
        if not density <= initial_density <= 1:
            raise InputError(
                f"initial_density: expected a number from density to 1. Received: {initial_density}"
            )
    if end is None and schedule != "constant":
        raise InputError("end_step: expected the step of the last pruning, after begin_step.")
    return gradual.make(
        schedule,
        density=density,
        begin=begin,
        end=begin if end is None else end,
        frequency=frequency,
        initial_density=initial_density,
    )
