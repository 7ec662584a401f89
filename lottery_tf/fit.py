"""Pruning for any functional or sequential Keras 3 model, under the user's own training."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import optimizer_state
from lottery_tf.method import collapse, pruning
from lottery_tf.method.resets import RESETS, Sources


def prune(
    model: keras.Model, fraction: float, *, criterion: str = "magnitude", scope: str = "global"
) -> float:
    """Prunes a masked model in place, on top of what is pruned already.

    Args:
        model: as `masked` returns it.
        fraction, criterion, scope: as in lottery_tf.method.pruning.prune.

    Returns:
        The density that is left.
    """
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    masks, _ = pruning.prune(weights, masks, fraction, criterion=criterion, scope=scope)
    masking.set_weights(model, pruning.apply_masks(weights, masks), masks)
    return pruning.density(masks)


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of `rounds`: its number, counted from 0, and the density it trains at."""

    index: int
    density: float


def rounds(model: keras.Model, rounds: int, fraction: float, *, reset: str = "init", seed: int = 0,
           criterion: str = "magnitude", scope: str = "global") -> Iterator[Round]:  # fmt: skip
    """Iterative magnitude pruning around the user's own training.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3)

    Each turn starts from the reset weights under the next masks, with a fresh optimizer state; the
    first from what the model has. After the last turn the model is as its training left it. Where
    nothing more can be pruned they end before, with a warning.

    Args:
        model: as `masked` returns it, compiled if its optimizer is to start afresh.
        rounds: number of turns.
        fraction: part of the survivors that is pruned after each turn but the last.
        reset: "init", the weights that the model has now; "reinit", a fresh initialization in
            every turn but the first.
        seed: of the fresh initializations.
        criterion, scope: as in lottery_tf.method.pruning.prune.

    Yields:
        Round.
    """
    if reset not in RESETS:
        raise InputError(f"reset: expected one of {', '.join(RESETS)}. Received: {reset}")
    if rounds < 1:
        raise InputError(f"rounds: expected at least 1. Received: {rounds}")
    start, masks = masking.get_weights(model), masking.get_masks(model)
    renew, by = _renewer(model), functools.partial(pruning.prune, criterion=criterion, scope=scope)

    def initialization(index):
        return _fresh(model, seed + index) if index else start

    sources = Sources(initialization, trained=lambda: masking.get_weights(model))
    for index in range(rounds):
        weights, _ = RESETS[reset if index else "init"](sources, masks, index)
        masking.set_weights(model, weights, masks)
        renew()
        yield Round(index, pruning.density(masks))
        if index < rounds - 1:
            before = masks
            masks, _ = by(masking.get_weights(model), before, fraction, initial=weights.copy)
            if collapse.of_pruning(before, masks):
                return _warn_of_end(index, fraction, masks)


def _warn_of_end(index, fraction, masks):
    warnings.warn(
        f"The rounds end after round {index}, as nothing more can be pruned: {fraction} of "
        f"{pruning.remaining(masks)} weights is none.",
        stacklevel=3,
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
