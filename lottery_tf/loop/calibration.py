"""Calibrate on a sample of inputs: the norms of Wanda, and the new weights of SparseGPT.

A model computes the sample in small batches, and each layer's input is summed up as it comes by.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.loop import checks
from lottery_tf.masking import choosing, keras_generators, keras_private, kernel_inputs
from lottery_tf.masking.batches import Batch, in_batches
from lottery_tf.pruning import Array, Masks, Weights, criteria
from lottery_tf.pruning.allocation import SparsityTarget, allocate, in_equal_parts
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.pruning.sparsegpt import sparsegpt
from lottery_tf.pruning.structure import N_OF_M
from lottery_tf.terminal import console

AT_ONCE = 32  # examples of a batch: what the layers of large networks compute lies in memory
SPARSEGPT = "sparsegpt"
SCOPES_OF_SPARSEGPT = ("layer", "erk")


def check_layers(model: keras.Model, criterion: Criterion, keep_dense: Sequence[str] = ()) -> None:
    """Raise InputError if a criterion needs the inputs of a kernel that are not known.

    Args:
        model: masked and built.
        criterion: as in `prune`.
        keep_dense: paths of kernels that are not pruned.
    """
    if criterion == SPARSEGPT:
        kinds: tuple[type, ...] = kernel_inputs.PRODUCTS
    elif "input_norm" in criteria.needs(criterion):
        kinds = kernel_inputs.KNOWN
    else:
        return
    found = {
        path: kernel.layer
        for path, kernel in masking.kernels(model).items()
        if kernel.variable.trainable and path not in keep_dense
    }
    others = {p: one for p, one in found.items() if kernel_inputs.plain(one) not in kinds}
    if others:
        names = {kernel_inputs.plain(layer).__name__ for layer in others.values()}
        raise InputError(
            f"criterion: {criteria.name_of(criterion)} scores the kernels of "
            f"{', '.join(kind.__name__ for kind in kinds)}. Received: {choosing.shortened(others)} "
            f"({', '.join(sorted(names))}). Leave them dense, by "
            f"keep_dense={sorted({layer.name for layer in others.values()})}, or by exclude= of "
            "lottery_tf.masked."
        )
    if criterion == SPARSEGPT and (
        lora := [one.name for one in found.values() if getattr(one, "lora_enabled", False)]
    ):
        raise InputError(
            f"criterion: sparsegpt sets kernels anew, and {', '.join(lora)} adds LoRA to its own. "
            "Prune before enable_lora, or call lottery_tf.unmasked, which merges it."
        )


def input_norms(
    model: keras.Model, weights: Weights, masks: Masks, batches: Sequence[Batch]
) -> Weights:
    """Return {kernel path: L2 norms of what each weight multiplies}, float64, over all batches.

    The model computes at inference with these weights and masks, and then has its own again. Of
    kernels that `check_layers` knows no inputs of, the norms are 1.

    Raises:
        InputError: the batches do not fit the inputs of the model, or are not finite.
    """
    layers = kernel_inputs.known(model)
    sums: dict[tuple[int, str], Array] = {}

    def see(layer: Any, inputs: Any) -> None:
        for name, squares in kernel_inputs.squares(layer, inputs).items():
            before = sums.get((id(layer), name), 0.0)
            sums[id(layer), name] = before + squares

    with _at(model, weights, masks):
        unique = list({id(layer): layer for layer in layers.values()}.values())
        for inputs in console.progress(list(_parts(batches)), "inputs of layers"):
            _compute(model, inputs, unique, see)
    found = {}
    for path, kernel in masking.kernels(model).items():
        shape = tuple(kernel.variable.shape)
        norms = np.sqrt(sums.get((id(kernel.layer), kernel.variable.name), np.ones(1)))
        found[path] = np.broadcast_to(norms, shape)
        if path in layers and kernel.variable.trainable:
            _check_seen(model, path, (id(kernel.layer), kernel.variable.name) in sums, norms)
    return {path: found[path] for path in masks}


def reconstruct(
    model: keras.Model, target: SparsityTarget, batches: Sequence[Batch]
) -> tuple[Masks, Weights]:
    """Prune the products of a model by SparseGPT, one after the other as the model computes them.

    Each is pruned for the inputs that it gets from the layers before it, which are pruned already,
    so the sample is computed once for each. The model itself does not change.

    Returns:
        ({path: new mask} of the kernels that are pruned, {variable path: array}).

    Raises:
        InputError: as `input_norms`; a scope over several layers, or too few weights would stay.
    """
    structure = target.structure
    if structure is not None and structure.pattern.kind != N_OF_M:
        raise InputError(
            "structure: sparsegpt sets weights one by one, or by a pattern as 2:4. Received: "
            f"{structure.pattern}"
        )
    if structure is None and target.scope not in SCOPES_OF_SPARSEGPT:
        raise InputError(
            f"scope: expected one of {SCOPES_OF_SPARSEGPT}, as sparsegpt prunes layer by layer. "
            f"Received: {target.scope}"
        )
    groups = {group.paths[0]: group for group in allocate(target, checks.prunable(model))}
    for path, group in groups.items():
        if group.left < min(target.min_layer_weights, group.alive):
            raise InputError(
                f"min_layer_weights: of {path} {group.left} weights may stay. Received: "
                f"{target.min_layer_weights}. Lower it, or prune less."
            )
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    kernels = {path: masking.kernels(model)[path] for path in groups}
    paths = {id(kernel.layer): path for path, kernel in kernels.items()}
    parts = list(_parts(batches))
    with _at(model, weights, masks):
        calls: Counter[int] = Counter()  # in the order of the first call of each
        watching = [kernel.layer for kernel in kernels.values()]
        _compute(model, parts[0], watching, lambda layer, _: calls.update([id(layer)]))
        for path, kernel in kernels.items():
            _check_seen(model, path, id(kernel.layer) in calls, np.zeros(1))
        for number in console.progress(list(calls), "layers"):
            path, layer = paths[number], kernels[paths[number]].layer
            gram = _gram(model, layer, parts, calls[number])
            _check_seen(model, path, True, gram)
            pattern = None
            if structure is not None:
                pattern = structure.kept_of(target.density), structure.pattern.m
            left = groups[path].left
            mask, new = _pruned(layer, weights[path], masks[path], gram, left, pattern)
            masks[path], weights[path] = mask, new.astype(weights[path].dtype)
            kernels[path].variable.assign(weights[path])
            kernels[path].mask.assign(mask)
    return {path: masks[path] for path in groups}, weights


def _gram(model: keras.Model, layer: Any, parts: list[Any], calls: int) -> Array:
    """Return X^T X of a layer over all parts of the sample; each ends with its last call."""
    total: Any = 0.0
    seen = 0

    def see(layer: Any, inputs: Any) -> None:
        nonlocal total, seen
        total, seen = total + kernel_inputs.gram(layer, inputs), seen + 1
        if seen == calls:
            raise _Enough

    for inputs in parts:
        seen = 0
        with contextlib.suppress(_Enough):
            _compute(model, inputs, [layer], see)
    return total


class _Enough(BaseException):
    """Ends the computation of a model whose further layers nobody asks for."""


def _pruned(
    layer: Any,
    kernel: Array,
    mask: Array,
    gram: Array,
    left: int,
    pattern: tuple[int, int] | None,
) -> tuple[Array, Array]:
    """Return the new (mask, kernel) of a layer with `left` weights, or those of a pattern."""
    weights, back = kernel_inputs.as_matrices(layer, kernel)
    alive, _ = kernel_inputs.as_matrices(layer, mask)
    counts = in_equal_parts(alive.sum(axis=(1, 2)), left)
    found = [
        sparsegpt(matrix, lives, products, int(count), pattern)
        for matrix, lives, products, count in zip(weights, alive, gram, counts, strict=True)
    ]
    new_masks, new_weights = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return back(new_masks), back(new_weights)


@contextlib.contextmanager
def _at(model: keras.Model, weights: Weights, masks: Masks) -> Iterator[None]:
    """Give a model other weights and masks while it is open; its state is then as it was."""
    before = masking.get_weights(model), masking.get_masks(model)
    with keras_generators.kept():
        try:
            held = before[1] | masks
            masking.set_weights(model, _masked(before[0] | weights, held), held)
            yield
        finally:
            masking.set_weights(model, *before)


def _masked(weights: Weights, masks: Masks) -> Weights:
    return {p: np.where(masks[p], a, 0).astype(a.dtype) if p in masks else a
            for p, a in weights.items()}  # fmt: skip


def _parts(batches: Sequence[Batch]) -> Iterator[Any]:
    for inputs, _, _ in batches:
        for part, _, _ in in_batches(inputs, None, size=AT_ONCE):
            yield part


def _compute(
    model: keras.Model, inputs: Any, layers: list[Any], see: Callable[[Any, Any], None]
) -> None:
    """Compute a part of the sample at inference, and see the inputs of some layers.

    Raises:
        InputError: it does not fit the inputs of the model, or is not finite; a layer computes
            inside a function that the backend compiles.
    """
    if type(model).call is keras.Model.call:
        raise InputError(
            f"data: {model.name} has no call() that would compute with the sample. Prune the parts "
            "of it that have one."
        )
    _check_finite(model, inputs)
    hidden, ours = [], []

    def seeing(layer: Any, tensor: Any) -> None:
        try:
            array = keras.ops.convert_to_numpy(tensor)
        except Exception:  # what each backend raises for a tensor without values
            hidden.append(layer.name)
            return
        try:
            see(layer, array)
        except Exception as error:  # which Keras would raise as one of the layer's
            ours.append(error)
            raise

    try:
        with kernel_inputs.watched(layers, seeing):
            options = {"training": False} if keras_private.takes_training(model) else {}
            model(inputs, **options)
    except Exception as error:  # whatever Keras and the user's layers raise
        if not ours:
            raise InputError(
                f"data: expected inputs of {model.name}: {_expected(model)}. Received: "
                f"{_described(inputs)}. {type(error).__name__}: {keras_private.cause(error):.400}"
            ) from error
    if ours:
        raise ours[0]
    if hidden:
        raise InputError(
            f"criterion: the inputs of {choosing.shortened(hidden)} are computed inside a function "
            f"that {keras.backend.backend()} compiles, and cannot be seen. Leave it dense, by "
            "keep_dense= or exclude= of lottery_tf.masked, or do not compile it."
        )


def _check_seen(model: keras.Model, path: str, is_seen: bool, sums: Array) -> None:
    if not is_seen:
        raise InputError(
            f"criterion: {model.name} computed the sample without {path}, so nothing is known of "
            "its inputs. Leave it dense, by exclude= of lottery_tf.masked, or freeze it."
        )
    if not np.isfinite(sums).all():
        raise InputError(
            f"data: expected inputs that {model.name} computes finite numbers from. Received: what "
            f"reaches {path} is not finite."
        )


def _check_finite(model: keras.Model, inputs: Any) -> None:
    for path, array in keras.tree.flatten_with_path(inputs):
        array = kernel_inputs.to_numpy(array) if "float" in str(array.dtype) else None
        if array is not None and not np.isfinite(array).all():
            name = "/".join(map(str, path)) or getattr(keras_private.signature(model), "name", "x")
            raise InputError(
                f"data: expected finite numbers. Received: NaN or infinity in the input {name}"
            )


def _expected(model: keras.Model) -> str:
    signature = keras_private.signature(model)
    if signature is None:
        return "what its call() takes"
    name = f"{signature.name}: " if isinstance(signature, keras.KerasTensor) else ""
    return name + _described(signature)


def _described(inputs: Any) -> str:
    return str(keras.tree.map_structure(lambda a: f"{a.dtype} {tuple(a.shape)}", inputs))
