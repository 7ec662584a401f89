"""Gradual pruning inside one training (Zhu & Gupta 2017): when, and to which density."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from lottery_tf import pruning
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, Masks, Weights, gradual, streams
from lottery_tf.pruning.policy import MaskPolicy
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.terminal import quiet

if TYPE_CHECKING:
    from lottery_tf.training.engine import Engine


class Gradual:
    """The gradual pruning of one training.

    Args:
        config: Config.
        policy: of the engine.
        density: what is left at the end; None: nothing is pruned on the way.
        steps_per_epoch: updates per epoch.
        uniform: what random scores come from, a function as streams.uniform.

    Attributes:
        densities: {step: density to prune to before it}.

    Raises:
        InputError: as `schedule`.
    """

    def __init__(
        self,
        config: Config,
        policy: MaskPolicy,
        density: float | None,
        steps_per_epoch: int,
        uniform: Callable[[int, int, Masks], Weights] = streams.uniform,
    ):
        self.config, self.policy, self.uniform = config, policy, uniform
        self.densities = {} if density is None else schedule(config, density, steps_per_epoch)

    def prune(self, step: int, weights: Weights, masks: Masks, round: int) -> Masks:
        """Return the masks from a step on; weights and masks are those before it."""
        target = self.policy.to_density(self.densities[step])
        uniform = functools.partial(self.uniform, self.config.init_seed, round)
        pruned, _ = pruning.prune(
            weights, masks, target, criterion=self.config.criterion, uniform=uniform
        )
        return pruned


def check_gradual(config: Config, engine: "Engine") -> None:
    """Raise InputError if --prune_at=train has no schedule, or a rewound round starts behind it."""
    for density in config.policy.targets if config.policy.prunes_at == "train" else ():
        last = max(schedule(config, density, engine.steps_per_epoch))
        if config.reset == "rewind" and engine.rewind_step > last:
            raise InputError(
                f"--rewind_to={config.rewind_to}: expected at most the step of the last gradual "
                f"pruning, {last} (--prune_end), or nothing would be pruned. Received: "
                f"{engine.rewind_step}"
            )


def schedule(config: Config, density: float, steps_per_epoch: int) -> dict[int, float]:
    """Return {step: density to prune to before it}; a step that would remove nothing is left out.

    tensorflow_model_optimization's PolynomialDecay and ConstantSparsity compute the densities of
    their schedules, as the bytes of a run depend on their float32.

    Args:
        config: Config; its prune_schedule, prune_begin, prune_end and prune_frequency.
        density: what is left at the end.
        steps_per_epoch: updates per epoch.

    Raises:
        InputError: the first pruning comes after the last one, or the last after the training.
    """
    steps = config.epochs * steps_per_epoch
    begin = parse_step("--prune_begin", config.prune_begin, steps_per_epoch)
    end = parse_step("--prune_end", config.prune_end or str(steps * 3 // 4), steps_per_epoch)
    if not begin < end < steps:
        raise InputError(
            "--prune_begin and --prune_end: expected two steps, one after the other, before the "
            f"end of training, {steps}. Received: {begin} and {end}"
        )
    way = end - begin
    every = config.prune_frequency or gradual.default_frequency(begin, end)
    end = begin + way // every * every  # the last pruning reaches the density
    if end == begin and config.prune_schedule != "constant":
        raise InputError(f"--prune_frequency: expected at most {way}. Received: {every}")
    steps_of = {"begin": begin, "end": end, "frequency": every}
    if config.prune_schedule in gradual.CURVES.keys() - _OF_TOOLKIT:
        made = gradual.make(config.prune_schedule, density=density, **steps_of)
        return made.densities()
    left = _toolkits_densities(config.prune_schedule, density, steps, **steps_of)
    left = np.clip(left, density, 1)  # float32 may lie below
    made = gradual.make(lambda step: float(left[step]), density=None, **steps_of)
    return made.densities() | {end: density}


_OF_TOOLKIT = {"polynomial", "constant"}


def _toolkits_densities(
    name: str, density: float, steps: int, *, begin: int, end: int, frequency: int
) -> Array:
    """Return the density of each step, which the toolkit computes in float32, as float64."""
    with _toolkit() as schedules:
        if name == "constant":
            sparsity_at = schedules.ConstantSparsity(1 - density, begin, end, frequency)
        else:
            sparsity_at = schedules.PolynomialDecay(0.0, 1 - density, begin, end, 3, frequency)
    every_step = tf.range(steps)
    _, sparsity = sparsity_at(every_step)
    return 1 - tf.broadcast_to(sparsity, every_step.shape).numpy().astype(float)


@contextlib.contextmanager
def _toolkit() -> Iterator[Any]:
    """tensorflow_model_optimization's schedules.

    It asks TensorFlow for Keras 2 by an environment variable that child processes would inherit.
    """
    with quiet.environment_kept("TF_USE_LEGACY_KERAS"):
        import tensorflow_model_optimization as toolkit  # type: ignore[import-untyped]

        yield toolkit.sparsity.keras
