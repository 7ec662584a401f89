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
    """Prune a masked model in place and return the density that is left.

        lottery_tf.prune(model, fraction=0.2)  # the smallest 20%
        lottery_tf.prune(model, density=0.1, scope="layer")  # 10% of each layer stay
        lottery_tf.prune(model, density=0.5, criterion="wanda", data=inputs)  # calibrated

    Weights that are pruned already stay pruned. Frozen layers are not pruned. A warning names each
    layer that has no weight left, and another one appears if masks cover less than half of all
    kernels.

    In `layer_fractions` and `keep_dense`, name a layer by its own name, by the name of a nested
    model that holds it, by the path of its kernel, or by a pattern of such a path (`"block_1*"`).

    Args:
        model: a model that `masked` or `mask` returned.
        fraction: the part of the surviving weights to remove, in (0, 1). Give this or `density`.
        density: the part of the prunable weights to leave, in (0, 1).
        criterion: how weights are scored; those with the lowest scores go. "magnitude", "random",
            "taylor", "snip", "grasp", "synflow", "wanda", or any other key of
            lottery_tf.pruning.criteria.CRITERIA, or a function like those. "sparsegpt" also changes
            the weights that stay.
        data: what the criterion computes with. "wanda" and "sparsegpt" take a sample of inputs;
            labels beside them are ignored. Criteria that need gradients take about ten examples per
            class, in any form that `fit` takes: (inputs, labels), (inputs, labels, sample_weight),
            inputs alone, a tf.data.Dataset, a PyDataset or a generator. Arrays are used whole; of
            batches the first 100 are read, once. The loss is the compiled one without the
            regularizers of weights. Without a compiled loss it is the cross-entropy of class
            numbers. "grasp" expects logits.
        iterations: the number of prunings in which the density is reached. Default: 100 for
            "synflow", 1 for all others.
        initial: {variable path: array}, the weights before training, for criteria that need them.
            Default: the current weights.
        seed: the seed of the criterion "random".
        scope: which weights compete. "global": those of all layers. "layer": those of each layer.
            "output": those of each output unit, which all keep the same part of their inputs.
            "erk": those of each layer, to a density in proportion to (sum of its dimensions) /
            (product of its dimensions), at most 1 (Evci et al. 2020). Default: "global", but
            "output" for "wanda" and "layer" for "sparsegpt".
        layer_fractions: {layer: fraction} for layers with a fraction of their own. Needs
            scope="layer" or "output".
        keep_dense: layers that are not pruned.
        min_layer_weights: the number of weights that every layer keeps at least.
        structure: which weights are pruned together. None: each by itself. "2:4", or any N:M: of
            every 4 inputs of an output 2 stay, so leave `fraction` and `density` out. (1, 4) or
            "1x4": blocks of outputs x inputs. "channel": output channels with everything that
            depends on them; `fraction` and `density` then count channels.
        pool: how the scores of a block or channel become one: "sum", "mean", or "l2" (the root of
            the sum of squares).

    Raises:
        InputError: a value is out of bounds; the criterion needs data, and there are none, or they
            do not fit the inputs, or the loss cannot be computed on them; or the criterion cannot
            compute the inputs of a layer.
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
