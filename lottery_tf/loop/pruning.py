"""`prune`: one pruning of a model in place."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError, is_ours
from lottery_tf.loop import checks
from lottery_tf.loop.samples import Sample
from lottery_tf.masking import keras_generators, keras_private, optimizer_state
from lottery_tf.pruning import Masks, Weights, criteria, streams
from lottery_tf.pruning.allocation import Amount
from lottery_tf.pruning.criteria import Criterion

Data = Any  # what `fit` takes as x, or a tuple of its x, y and sample_weight; None without


def prune(model: keras.Model, fraction: float | None = None, *, density: float | None = None,
          criterion: Criterion = "magnitude", data: Data = None, iterations: int | None = None,
          initial: Weights | None = None, seed: int = 0, scope: str = "global",
          layer_fractions: Mapping[str, float] | None = None, keep_dense: Sequence[str] = (),
          min_layer_weights: int = 0) -> float:  # fmt: skip
    """Prunes a masked model in place, on top of what is pruned already; gives the density left.

    Frozen layers stay. A warning names a layer that has lost its last weights, and tells what part
    of all kernels is masked where that is less than half.

    Args:
        model: as `masked` returns it.
        fraction, density: part of the survivors to remove; or of the prunable weights to leave.
        criterion: a key of lottery_tf.pruning.criteria.CRITERIA, or a function like those.
        data: for criteria that need gradients, about ten examples per class in any form that `fit`
            takes: (inputs, labels), (inputs, labels, sample_weight), inputs alone, a
            tf.data.Dataset, a PyDataset or a generator, with nested inputs and labels. Arrays are
            used whole; of what comes in batches, the first 100 batches are read, once. The loss is
            the one that `fit` minimizes, without the regularizers of weights; of a model that is
            not compiled, the cross-entropy of class numbers. grasp expects logits.
        iterations: prunings by which it is reached. Default: 100 for synflow, else 1.
        initial: {variable path: array} before training. Default: the weights as they are.
        seed: of the criterion "random".
        scope: "global", scores compete over all layers; "layer", in each layer; "erk", in each, to
            a density in proportion to (sum of its dimensions) / (product of them), at most 1.
        layer_fractions: {layer: fraction} of layers with one of their own, under scope="layer".
        keep_dense: names of layers that are not pruned.
        min_layer_weights: weights that each layer keeps at least: those with its highest scores.

    A layer is named by its name, that of a nested model, the path of its kernel, or a pattern of
    such a path ("block_1*").

    Raises:
        InputError: a value out of bounds, a criterion that needs data without data, or data on
            which the loss cannot be computed.
    """
    checks.check_model(model, "prune")
    checks.whole_number(0, below=streams.SEEDS, seed=seed)
    where = checks.where(scope, layer_fractions, keep_dense, min_layer_weights)
    amount = checks.make_amount(model, fraction, density, where)
    data = None if data is None else Sample(data)
    checks.check_evidence(model, criterion, data, iterations)
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    masking.compile_with_masks(model)
    initial = initial or masking.get_weights(model)
    before = checks.prunable(model)
    by: Any = {"criterion": criterion, "iterations": iterations, "seed": seed}
    masks, _ = pruned(model, amount, initial, data, 0, **by)
    checks.warn_of_death(before, masks, another=False, stacklevel=2)
    weights = pruning.apply_masks(masking.get_weights(model), masks)
    masking.set_weights(model, weights, masking.get_masks(model) | masks)
    optimizer_state.forget_pruned(model)
    return pruning.density(masks)


def check_gradients(model: keras.Model, criterion: Criterion, data: Sample | None) -> None:
    """Raise InputError if the gradients that a criterion needs cannot be computed on the data."""
    masks = checks.prunable(model)
    weights = masking.get_weights(model)
    evidence = _evidence(model, weights, weights, data, None)
    for name in sorted(criteria.needs(criterion) & checks.GRADIENTS):
        for path, gradient in evidence[name](masks).items():
            if not np.isfinite(gradient).all():
                raise InputError(f"data: expected a finite loss. Received: the {name} of {path} is "
                                 "not finite.")  # fmt: skip


def pruned(model: keras.Model, amount: Amount, initial: Weights, data: Sample | None, round: int,
           *, criterion: Criterion, iterations: int | None, seed: int,
           old_draws: bool = False) -> tuple[Masks, pruning.Threshold]:  # fmt: skip
    """The masks of the kernels that are not frozen after a pruning; the model stays as it is.

    `old_draws` says whether random scores are those of store.draws.are_old.
    """
    trained, masks = masking.get_weights(model), checks.prunable(model)
    draw = streams.old_uniform if old_draws else streams.uniform
    uniform = functools.partial(draw, seed, round)
    evidence = _evidence(model, initial, trained, data, uniform)
    by: Any = {"criterion": criterion, "iterations": iterations}
    with keras_generators.kept():  # evidence may come from a copy of the model
        return pruning.prune(trained, masks, amount, **by, **evidence)


def _evidence(model, initial, trained, data, uniform):
    """As training.evidence.Evidence.of gives it, of a user's model and data."""
    held = masking.get_masks(model)

    @functools.cache
    def made():
        from lottery_tf.masking import gradients

        has_loss = model.compiled or keras_private.has_own_loss(model)
        loss = gradients.loss_of_fit if has_loss else gradients.loss_of_class_numbers
        return gradients.Gradients(model, data.batches, loss=loss)

    def gradients(compute):
        found = made()
        try:
            return compute(found)
        except InputError:
            raise
        except Exception as error:  # whatever the user's loss, model or data raise
            if is_ours(error):
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"data: expected inputs and labels on which `fit` could train {model.name}; its "
                f"loss cannot be computed on them. {type(error).__name__}: {reason:.400}"
            ) from error

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

    evidence: dict[str, Callable[[Masks], Weights]] = {
        "initial": lambda masks: initial,
        "uniform": uniform,
        "initial_gradient": lambda masks: gradients(
            lambda g: g.mean(initial, masks, training=True)
        ),
        "trained_gradient": lambda masks: gradients(
            lambda g: g.mean(trained, masks, training=False)
        ),
        "initial_hessian_gradient": lambda masks: gradients(lambda g: g.hessian(initial, masks)),
        "initial_flow": flow,
    }
    # A network is computed with all of its masks, those of frozen layers too.
    return {
        name: lambda masks, gather=gather: gather(held | masks) for name, gather in evidence.items()
    }
