"""`prune`: one pruning of a model in place."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import calibration, checks, scoring
from lottery_tf.masking import optimizer_state
from lottery_tf.pruning import Weights, streams
from lottery_tf.pruning.criteria import Criterion

Data = Any  # what `fit` takes as x, or a tuple of its x, y and sample_weight; None without


def prune(
    model: keras.Model,
    fraction: float | None = None,
    *,
    density: float | None = None,
    criterion: Criterion = "magnitude",
    data: Data = None,
    iterations: int | None = None,
    initial: Weights | None = None,
    seed: int = 0,
    scope: str | None = None,
    layer_fractions: Mapping[str, float] | None = None,
    keep_dense: Sequence[str] = (),
    min_layer_weights: int = 0,
    structure: str | tuple[int, int] | None = None,
    pool: str = "sum",
) -> float:
    """Prune a masked model in place, on top of what is pruned already; return the density left.

    Frozen layers stay. A warning names a layer that has lost its last weights, and tells what part
    of all kernels is masked where that is less than half.

    Args:
        model: as `masked` returns it.
        fraction, density: part of the survivors to remove; or of the prunable weights to leave.
        criterion: a key of lottery_tf.pruning.criteria.CRITERIA, or a function like those; or
            "sparsegpt", which also sets the weights that stay.
        data: for "wanda" and "sparsegpt", a sample of inputs, labels or none beside them. For
            criteria that need gradients, about ten examples per class in any form that `fit`
            takes: (inputs, labels), (inputs, labels, sample_weight), inputs alone, a
            tf.data.Dataset, a PyDataset or a generator, with nested inputs and labels. Arrays are
            used whole; of what comes in batches, the first 100 batches are read, once. The loss is
            the one that `fit` minimizes, without the regularizers of weights; of a model that is
            not compiled, the cross-entropy of class numbers. grasp expects logits.
        iterations: prunings by which it is reached. Default: 100 for synflow, else 1.
        initial: {variable path: array} before training. Default: the weights as they are.
        seed: of the criterion "random".
        scope: "global", scores compete over all layers; "layer", in each layer; "erk", in each, to
            a density in proportion to (sum of its dimensions) / (product of them), at most 1;
            "output", in each output unit, which all keep the same part of their inputs. Default:
            "global"; of wanda "output", of sparsegpt "layer".
        layer_fractions: {layer: fraction} of layers with one of their own, under scope="layer" or
            "output".
        keep_dense: names of layers that are not pruned.
        min_layer_weights: weights that each layer keeps at least: those with its highest scores.
        structure: what lives and dies together. None: each weight by itself. "2:4" (any N:M): of
            every 4 inputs of an output 2 stay, which fixes the density; (1, 4) or "1x4": blocks of
            outputs x inputs; "channel": output channels, with all that belongs to them, where a
            fraction or density is one of the channels, and scope="layer" is the one to begin with.
        pool: how the scores of the weights in a block or channel make its own: "sum", "mean", or
            "l2", the root of the sum of their squares.

    A layer is named by its name, that of a nested model, the path of its kernel, or a pattern of
    such a path ("block_1*").

    Raises:
        InputError: a value out of bounds, a criterion that needs data without data, data on which
            the loss cannot be computed or that do not fit the inputs, or a layer whose inputs a
            criterion does not know.
    """
    checks.check_model(model, "prune")
    checks.whole_number(0, below=streams.SEEDS, seed=seed)
    structured = checks.structure_of(model, structure, pool, "prune")
    where = checks.where(
        scope, criterion, layer_fractions, keep_dense, min_layer_weights, structured
    )
    target = checks.make_target(model, fraction, density, where)
    sample = None if data is None else scoring.Sample(data)
    is_sparsegpt = isinstance(criterion, str) and criterion == calibration.SPARSEGPT
    if is_sparsegpt and iterations is None and sample is None:
        raise InputError(f"criterion: sparsegpt {checks.NEEDS_INPUTS}")
    if not is_sparsegpt or iterations is not None:
        checks.check_scoring(model, criterion, sample, iterations)
    calibration.check_layers(model, criterion, target.keep_dense)
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    masking.compile_with_masks(model)
    start = initial or masking.get_weights(model)
    before, trained = checks.prunable(model), masking.get_weights(model)
    weights: Weights | None
    if is_sparsegpt:
        assert sample, "checked above"
        masks, weights = calibration.reconstruct(model, target, sample.batches)
    else:
        masks, _ = pruning.prune(
            trained,
            before,
            target,
            criterion=criterion,
            iterations=iterations,
            uniform=functools.partial(streams.uniform, seed, 0),
            **scoring.of_model(model, lambda: start, trained, sample),
        )
        weights = None
    checks.warn_of_death(before, masks, another=False, stacklevel=2)
    if weights is None:
        optimizer_state.set_masks(model, masks)
    else:
        masking.set_weights(model, weights, masking.get_masks(model) | masks)
        optimizer_state.forget_pruned(model)
    return pruning.density(masks)
