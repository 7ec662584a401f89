"""How masks change inside one training: gradual pruning, and dynamic sparse training."""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from lottery_tf import models, pruning
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.masking.batches import in_batches
from lottery_tf.masking.gradients import Gradients
from lottery_tf.pruning import Array, Masks, Weights, gradual, regrowth, streams
from lottery_tf.pruning.policy import IN_TRAINING, MaskPolicy
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.pruning.streams import Noise
from lottery_tf.terminal import quiet

if TYPE_CHECKING:
    from lottery_tf.training.engine import Engine


class MaskChanges(Protocol):
    """How the masks of one training change."""

    @property
    def steps(self) -> Collection[int]:
        """The steps before which they change."""

    def masks(self, step: int, weights: Weights, masks: Masks, noise: Noise) -> Masks:
        """Return the masks from a step on; weights and masks are those before it."""


class Constant:
    """The masks stay."""

    steps: Collection[int] = ()

    def masks(self, step: int, weights: Weights, masks: Masks, noise: Noise) -> Masks:
        return masks


class Gradual:
    """Gradual pruning (Zhu & Gupta 2017), --prune_at=train.

    Args:
        config: Config.
        policy: of the engine.
        density: what is left at the end.
        steps_per_epoch: updates per epoch.
        uniform: what random scores come from, a function as streams.uniform.

    Attributes:
        steps: {step: density to prune to before it}.

    Raises:
        InputError: as `schedule`.
    """

    def __init__(
        self,
        config: Config,
        policy: MaskPolicy,
        density: float,
        steps_per_epoch: int,
        uniform: Callable[[int, int, Masks], Weights],
    ):
        self.config, self.policy, self.uniform = config, policy, uniform
        self.steps = schedule(config, density, steps_per_epoch)

    def masks(self, step: int, weights: Weights, masks: Masks, noise: Noise) -> Masks:
        target = self.policy.to_density(self.steps[step])
        uniform = functools.partial(self.uniform, self.config.init_seed, noise.round)
        pruned, _ = pruning.prune(
            weights, masks, target, criterion=self.config.criterion, uniform=uniform
        )
        return pruned


class Dynamic:
    """Dynamic sparse training, --prune_at=dynamic (Evci et al. 2020; Mocanu et al. 2018).

    Args:
        config: Config.
        steps_per_epoch: updates per epoch.
        gradients: a function that returns the DenseGradients of the run.

    Raises:
        InputError: --prune_end lies after the training, or --prune_frequency after --prune_end.
    """

    def __init__(
        self, config: Config, steps_per_epoch: int, gradients: Callable[[], "DenseGradients"]
    ):
        self.config, self.gradients = config, gradients
        steps = config.epochs * steps_per_epoch
        self.end = parse_step(
            "--prune_end", config.prune_end or str(steps * 3 // 4), steps_per_epoch
        )
        every = config.prune_frequency or gradual.default_frequency(0, self.end)
        if not every < self.end <= steps:
            raise InputError(
                f"--prune_end: expected a step after --prune_frequency, {every}, and at most the "
                f"end of training, {steps}. Received: {self.end}"
            )
        self.steps = regrowth.update_steps(every, self.end)

    def masks(self, step: int, weights: Weights, masks: Masks, noise: Noise) -> Masks:
        if self.config.regrow == "gradient":
            scores = self.gradients().sizes(weights, masks, noise, step)
        else:
            scores = streams.growth(self.config.init_seed, noise.round, step, masks)
        fraction = regrowth.drop_fraction(self.config.drop_fraction, step, self.end)
        return regrowth.regrow(weights, scores, masks, fraction)


class DenseGradients:
    """Computes the gradient of all weights, pruned ones too, on the batch of a step.

    It is that of the cross-entropy, augmented as in training, where BatchNorm normalises the batch
    by itself. Each worker computes its rows of the batch. Networks of float16 are computed in
    float32.

    Args:
        engine: Engine.
    """

    def __init__(self, engine: "Engine"):
        self.engine, network = engine, engine.network
        if engine.config.mixed_precision == "float16":  # where small gradients would be zero
            shape, classes = engine.directory.input_shape, engine.directory.classes
            network = models.build(engine.config, shape, classes, seed=0, policy="float32")
        self.gradients = Gradients(network, [])

    def sizes(self, weights: Weights, masks: Masks, noise: Noise, step: int) -> Weights:
        """Return {kernel path: |gradient|} at weights that are zero where masked."""
        engine, feed = self.engine, self.engine.feed
        epoch, first = divmod(step, engine.steps_per_epoch)
        inputs = feed.step_inputs(feed.start_epoch(noise, epoch, first), first)
        images, labels, draws = feed.worker_batch(*inputs)
        images = engine.normalise(engine.augment(images, draws))
        size = engine.config.batch_size // engine.config.accumulate_steps
        self.gradients.batches = in_batches(images, labels, size=size)
        full = {path: np.ones_like(mask) for path, mask in masks.items()}
        found = self.gradients.mean(weights, full, training=True)
        # All workers must decide alike.
        flat = engine.cluster.sum(np.concatenate([found[path].ravel() for path in masks]))
        ends = np.cumsum([mask.size for mask in masks.values()])[:-1]
        parts = zip(masks, np.split(np.abs(flat / engine.cluster.workers), ends), strict=True)
        return {path: part.reshape(masks[path].shape) for path, part in parts}


def changes_of(engine: "Engine", density: float | None) -> MaskChanges:
    """Return how the masks of a training change that has a density of its own, or None."""
    config = engine.config
    if density is None:
        return Constant()
    if config.policy.prunes_at == "dynamic":
        return Dynamic(config, engine.steps_per_epoch, lambda: engine.dense_gradients)
    return Gradual(config, engine.policy, density, engine.steps_per_epoch, engine.uniform)


def check_changes(engine: "Engine") -> None:
    """Raise InputError if masks cannot change as --prune_at says, or a round starts later."""
    config = engine.config
    for density in config.policy.targets if config.policy.prunes_at in IN_TRAINING else ():
        last = max(changes_of(engine, density).steps)
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
