"""Pruning for any functional or sequential Keras 3 model, under the user's own training."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import optimizer_state
from lottery_tf.method import Weights, collapse, pruning, streams
from lottery_tf.method.allocation import Amount
from lottery_tf.method.resets import RESETS, Sources


def prune(
    model: keras.Model,
    fraction: float | None = None,
    *,
    density: float | None = None,
    criterion: str = "magnitude",
    data: tuple[Any, Any] | None = None,
    iterations: int | None = None,
    initial: Weights | None = None,
    seed: int = 0,
    **where: Any,
) -> float:
    """Prunes a masked model in place, on top of what is pruned already.

    Args:
        model: as `masked` returns it.
        fraction: part of the survivors to remove, in (0, 1); or
        density: remaining / prunable weights to leave, in (0, 1).
        criterion: a key of lottery_tf.method.criteria.CRITERIA.
        data: (inputs, labels) for criteria that need gradients; of about ten examples per class.
            Their loss is the one that the model is compiled with, else the cross-entropy of class
            numbers; grasp expects logits.
        iterations: prunings by which it is reached. Default: 100 for synflow, else 1.
        initial: {variable path: array} before training, for criteria that compare with it. Default:
            the weights as they are.
        seed: of the criterion "random".
        where: scope, layer_fractions, keep_dense and min_layer_weights, as of
            lottery_tf.method.allocation.Amount.

    Returns:
        The density that is left.

    Raises:
        InputError: a value out of bounds, or a criterion that needs data without data.
    """
    amount, initial = Amount(fraction, density, **where), initial or masking.get_weights(model)
    masks = _pruned(model, amount, initial, data, 0, criterion=criterion, iterations=iterations,
                    seed=seed)  # fmt: skip
    masking.set_weights(model, pruning.apply_masks(masking.get_weights(model), masks), masks)
    return pruning.density(masks)


def _pruned(model, amount, initial, data, round, *, criterion, iterations, seed):
    """The masks of a model after a pruning; the model stays as it is."""
    trained, masks = masking.get_weights(model), masking.get_masks(model)
    evidence = _evidence(model, initial, trained, data, seed, round)
    by = {"criterion": criterion, "iterations": iterations}
    return pruning.prune(trained, masks, amount, **by, **evidence)[0]


def _evidence(model, initial, trained, data, seed, round):
    """As training.evidence.Evidence.of gives it, of a user's model and data."""

    @functools.cache
    def gradients():
        if data is None:
            raise InputError("criterion: it needs gradients: pass data=(inputs, labels).")
        from lottery_tf.masking.gradients import Gradients, cross_entropy

        inputs, labels = data
        loss = functools.partial(model.compute_loss, None) if model.compiled else cross_entropy
        return Gradients(model, inputs, labels, loss=loss)

    def flow(masks):
        from lottery_tf.masking.gradients import Flow, in_float64

        copy = in_float64(model)
        # A copy may name its nested variables otherwise; their order is the model's.
        names = dict(zip(masking.variables(model), masking.variables(copy), strict=True))
        of = Flow(copy).of(
            {names[path]: array for path, array in initial.items()},
            {names[path]: mask for path, mask in masks.items()},
        )
        return {path: of[names[path]] for path in masks}

    return {
        "initial": lambda masks: initial,
        "uniform": functools.partial(streams.uniform, seed, round),
        "initial_gradient": lambda masks: gradients().mean(initial, masks, training=True),
        "trained_gradient": lambda masks: gradients().mean(trained, masks, training=False),
        "initial_hessian_gradient": lambda masks: gradients().hessian(initial, masks),
        "initial_flow": flow,
    }


class RewindPoint(keras.callbacks.Callback):
    """Keeps the weights of a model after some steps of `fit`, to rewind to."""

    def __init__(self, step: int):
        super().__init__()
        self.step, self.steps = step, 0
        self.weights: Weights | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.weights = masking.get_weights(self.model)


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of `rounds`.

    Args:
        index: its number, from 0.
        density: that it trains at.
        first_step: the step of the learning rate's schedule to start at; 0 but where it is rewound.
        callbacks: for `fit`: what keeps the rewind point in round 0.
    """

    index: int
    density: float
    first_step: int = 0
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)


def rounds(model: keras.Model, rounds: int, fraction: float | None = None, *,
           densities: Sequence[float] = (), reset: str = "init", rewind_to: int = 0,
           seed: int = 0, criterion: str = "magnitude", data: tuple[Any, Any] | None = None,
           iterations: int | None = None, **where: Any) -> Iterator[Round]:  # fmt: skip
    """Iterative magnitude pruning around the user's own training; yields a Round for each turn.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3, callbacks=round.callbacks)

    Each turn starts from reset weights under the next masks with a fresh optimizer, the first from
    what the model has. The turns end before, with a warning, where nothing is left to prune.

    Args:
        model, rounds: as `masked` returns it, compiled if its optimizer is to start afresh; turns.
        fraction, densities: part of the survivors that is pruned after each turn but the last; or
            the densities of the turns after the first.
        reset: a key of lottery_tf.method.resets.RESETS. "rewind" needs `rewind_to`, and
            round.callbacks in the `fit` of round 0. Where a schedule of the rate goes on
            ("rewind", "lr_rewind", "finetune") is up to your `fit`: round.first_step says where.
        rewind_to: step, a batch of round 0.
        seed: of fresh initializations and of what is drawn by chance.
        criterion, data, iterations, **where: as in `prune`.

    Raises:
        InputError: a value out of bounds, or a rewind point that was not kept.
    """
    _check_reset(reset, rewind_to)
    amounts = _amounts(rounds, fraction, densities, where)
    start, masks = masking.get_weights(model), masking.get_masks(model)
    renew, point = _renewer(model), [RewindPoint(rewind_to)] if reset == "rewind" else []
    sources = _sources(model, start, seed, point, rewind_to)
    by: Any = {"criterion": criterion, "iterations": iterations, "seed": seed}
    for index in range(rounds):
        weights, first = RESETS[reset if index else "init"](sources(index), masks, index)
        masking.set_weights(model, weights, masks)
        renew()
        yield Round(index, pruning.density(masks), first, [] if index else [*point])
        if index < rounds - 1:
            before, masks = masks, _pruned(model, amounts[index], weights, data, index, **by)
            if not densities and collapse.of_pruning(before, masks):
                return _warn_of_end(index, fraction, masks)


def _amounts(rounds, fraction, densities, where):
    """The Amount of the pruning after each turn but the last."""
    if rounds < 1:
        raise InputError(f"rounds: expected at least 1. Received: {rounds}")
    if densities and len(densities) < rounds - 1:
        raise InputError(f"densities: expected {rounds - 1}. Received: {len(densities)}")
    targets = densities or [None] * rounds
    return [Amount(fraction, target, **where) for target in targets]


def _check_reset(reset, rewind_to):
    if reset not in RESETS:
        raise InputError(f"reset: expected one of {', '.join(RESETS)}. Received: {reset}")
    if reset == "rewind" and rewind_to < 1:
        raise InputError(f"rewind_to: expected a step, at least 1. Received: {rewind_to}")


def _warn_of_end(index, fraction, masks):
    warnings.warn(
        f"The rounds end after round {index}, as a fraction of {fraction} prunes nothing more of "
        f"{pruning.remaining(masks)} weights.",
        stacklevel=3,
    )


def _sources(model, start, seed, point, rewind_to):
    """A function of the round that gives what its reset can draw on."""

    def rewind_point():
        if point[0].weights is None:
            raise InputError(
                f"rewind_to: round 0 kept no weights of step {rewind_to}. Pass round.callbacks to "
                "its fit, and train for more steps than that."
            )
        return point[0].weights

    return lambda round: Sources(
        lambda index: _fresh(model, seed + index) if index else start,
        trained=lambda: masking.get_weights(model),
        rewind_point=rewind_point,
        rewind_step=rewind_to,
        last_step=0,
        generator=functools.partial(streams.shuffled_weights, seed, round),
    )


def _fresh(model, seed):
    keras.utils.set_random_seed(seed)
    fresh = masking.get_weights(keras.models.clone_model(model))
    # A copy may name its nested variables otherwise; their order is the model's.
    return dict(zip(masking.variables(model), fresh.values(), strict=True))


def _renewer(model):
    """A function that sets the model's optimizer, if it has one, back to how it began."""
    optimizer = getattr(model, "optimizer", None)
    if not optimizer:
        return lambda: None
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(model.trainable_variables)
    return functools.partial(optimizer_state.reset, optimizer, optimizer_state.first_values(new))
