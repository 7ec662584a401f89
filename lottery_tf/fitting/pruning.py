"""`prune`: one pruning of a model in place."""

import functools
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.method import Masks, Weights, pruning, streams
from lottery_tf.method.allocation import Amount


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
    masks = pruned(model, amount, initial, data, 0, criterion=criterion, iterations=iterations,
                    seed=seed)  # fmt: skip
    masking.set_weights(model, pruning.apply_masks(masking.get_weights(model), masks), masks)
    return pruning.density(masks)


def pruned(model: keras.Model, amount: Amount, initial: Weights, data: tuple[Any, Any] | None,
           round: int, *, criterion: str, iterations: int | None,
           seed: int) -> Masks:  # fmt: skip
    """The masks of a model after a pruning; the model stays as it is."""
    trained, masks = masking.get_weights(model), masking.get_masks(model)
    evidence = _evidence(model, initial, trained, data, seed, round)
    by: Any = {"criterion": criterion, "iterations": iterations}
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
