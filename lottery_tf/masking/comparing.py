"""Compares the outputs of two models on random inputs of their signature."""

import functools
import itertools
import warnings
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private

EXAMPLES = 2
SIZES = (8, 64, 224)  # of dimensions that the signature leaves open
INTEGERS = (1000, 100, 10, 2)  # bounds; embeddings refuse numbers beyond their table
LOOKUPS = (
    keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization
)  # fmt: skip
_ADVICE = (
    "the copy of {} computes otherwise than the model{}: on a random input it {}. A layer keeps "
    "what its weights and its get_config do not hold: let them hold it, or change the model itself "
    "by lottery_tf.{}(model)."
)
_MODES = {False: "", True: " in training"}


def check_same(model: Any, copy: Any, of: str) -> None:
    """Raise InputError if a copy computes otherwise than the model, at inference or in training.

    Outputs are compared on one random input, and where the copy is to be trained the model's own
    losses (of regularizers and `add_loss`) too. Both models start from the same random state. A
    warning says where the model itself cannot be called so.

    Args:
        model: a built model.
        copy: of the same layers and weights.
        of: the function that made the copy, for messages.
    """
    for inputs in _inputs(model):
        same = _is_repeatable(model, inputs, training=False)
        if same is None:  # an input of another size or range may fit
            continue
        if not same:
            break
        _compare(model, copy, inputs, of, training=False)
        if len(_seeds(model)) == len(_seeds(copy)) and _is_repeatable(model, inputs, training=True):
            _compare(model, copy, inputs, of, training=True)
        return
    warnings.warn(
        f"{of}: the copy of {model.name} was not compared with it: no random input gave the same "
        "output twice. Compare the outputs of both on your data.",
        stacklevel=3,
    )


def _compare(model, copy, inputs, of, *, training):
    losses = training and of == "masked"  # pruned weights that were revived are zero in others
    expected = _outputs(model, model, inputs, training=training, losses=losses)
    try:
        outputs = _outputs(copy, model, inputs, training=training, losses=losses)
    except Exception as error:  # as where it lacks a vocabulary
        advice = _ADVICE.format(model.name, _MODES[training], f"fails: {error}", _way(of))
        raise InputError(f"{of}: {advice}") from error
    difference = _difference(expected, outputs)
    largest = max((np.abs(array).max(initial=0) for array in map(_numbers, expected)), default=0)
    allowed = 1e-3 * max(float(largest), 1e-3)
    if difference > allowed and training:
        # BatchNorm over two examples magnifies rounding: so would it a change in the last digits.
        nearby = keras.tree.map_structure(_nearby, inputs)
        moved = _outputs(model, model, nearby, training=training, losses=losses)
        allowed = max(allowed, _difference(expected, moved))
    if difference > allowed:
        found = f"gives outputs{' and losses' * losses} that differ by {difference:.3g}"
        raise InputError(f"{of}: {_ADVICE.format(model.name, _MODES[training], found, _way(of))}")


def _way(of):
    return of.removesuffix("ed")  # masked: mask; unmasked: unmask


def _is_repeatable(model, inputs, *, training):
    """Whether two calls of a model give the same outputs; None if it cannot be called so."""
    try:
        first, again = (_outputs(model, model, inputs, training=training) for _ in range(2))
    except Exception:  # whatever Keras and the layers raise for an input that does not fit
        return None
    return _difference(first, again) == 0


def _difference(some, other):
    pairs = zip(map(_numbers, some), map(_numbers, other), strict=True)
    unequal = [np.abs(a - b)[~((a == b) | (np.isnan(a) & np.isnan(b)))] for a, b in pairs]
    # What is not a number in one of both differs without measure.
    return max((float(np.nan_to_num(x, nan=np.inf).max(initial=0)) for x in unequal), default=0.0)


def _numbers(output):
    return np.asarray(keras.ops.convert_to_numpy(output)).astype(np.float64)


def _outputs(model, seeded, inputs, *, training, losses=False):
    """The outputs of a call, and the sum of its losses; no state changes.

    Random numbers are drawn as another model of the same layers, `seeded`, would draw them.
    """
    seeds = dict(zip(map(id, _seeds(model)), _seeds(seeded), strict=False))
    mode = {"training": training} if keras_private.takes_training(model) else {}
    outputs, _, *added = model.stateless_call(
        [variable.value for variable in model.trainable_variables],
        [seeds.get(id(variable), variable).value for variable in model.non_trainable_variables],
        inputs,
        return_losses=losses,
        **mode,
    )
    total = [sum(map(keras.ops.sum, added[0]))] if losses and added[0] else []
    return keras.tree.flatten(outputs) + total


def _seeds(model):
    """The states of the random numbers in a model, in the order of its layers."""
    layers = keras_private.flatten_layers(model)
    return [one.state for layer in layers for one in keras_private.seed_generators(layer)]


def _inputs(model):
    """Random inputs of the structure that the model takes, one for each size and bound."""
    signature = keras_private.signature(model)
    if signature is None:
        return
    generator, known = np.random.default_rng(0), _vocabulary(model)
    for size, bound in itertools.product(SIZES, INTEGERS):
        draw = functools.partial(_random, generator, known, size, bound)
        yield keras.tree.map_structure(draw, signature)


def _random(generator, known, size, bound, tensor):
    (words, numbers), dtype = known, keras.backend.standardize_dtype(tensor.dtype)
    examples = tensor.shape[0] or EXAMPLES  # a stateful layer has a batch of its own size
    shape = [examples, *(size if length is None else length for length in tensor.shape[1:])]
    if dtype == "string":
        return keras.ops.convert_to_tensor(generator.choice(words, shape).tolist(), dtype="string")
    if "int" in dtype and numbers and bound == INTEGERS[0]:
        array = generator.choice(numbers, shape)
    elif "int" in dtype or dtype == "bool":
        array = generator.integers(0, bound, shape)
    else:
        array = generator.standard_normal(shape)
    return keras.ops.convert_to_tensor(array, dtype=dtype)


def _nearby(array):
    """An input whose numbers differ in their last digits."""
    if "float" in keras.backend.standardize_dtype(array.dtype):
        return array * keras.ops.cast(1 + 1e-5, array.dtype)
    return array


def _vocabulary(model):
    """(words, integers) that the lookup layers know, and one that they do not."""
    words, numbers = ["unknown"], []
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, LOOKUPS):
            found = layer.get_vocabulary()[:100]
            words += [word for word in found if isinstance(word, str)]
            numbers += [int(word) for word in found if not isinstance(word, str)]
    return words, numbers
