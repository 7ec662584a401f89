"""Compares the outputs of two models on random inputs of their signature."""

import functools
import itertools
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
    "the copy of {} computes otherwise than the model: on a random input it {}. A layer keeps what "
    "its weights and its get_config do not hold: let them hold it."
)


def check_same(model: Any, copy: Any) -> None:
    """Raises InputError if a copy computes otherwise than the model, at inference.

    A model that takes no random input, or that is random at inference, is not compared.
    """
    for inputs in _inputs(model):
        try:
            expected, again = _outputs_twice(model, inputs)
        except Exception:  # an input of another size or range may fit
            continue
        if _difference(expected, again) == 0:
            _compare(model, copy, inputs, expected)
        return


def _compare(model, copy, inputs, expected):
    try:
        difference = _difference(expected, _outputs_twice(copy, inputs)[0])
    except Exception as error:  # as where it lacks a vocabulary
        raise InputError(f"masked: {_ADVICE.format(model.name, f'fails: {error}')}") from error
    largest = max((np.abs(array).max(initial=0) for array in map(_numbers, expected)), default=0)
    if difference > 1e-3 * max(float(largest), 1e-3):
        found = f"gives outputs that differ by {difference:.3g}"
        raise InputError(f"masked: {_ADVICE.format(model.name, found)}")


def _difference(some, other):
    pairs = zip(map(_numbers, some), map(_numbers, other), strict=True)
    unequal = [np.abs(a - b)[~((a == b) | (np.isnan(a) & np.isnan(b)))] for a, b in pairs]
    # What is not a number in one of both differs without measure.
    return max((float(np.nan_to_num(x, nan=np.inf).max(initial=0)) for x in unequal), default=0.0)


def _numbers(output):
    return np.asarray(keras.ops.convert_to_numpy(output)).astype(np.float64)


def _outputs_twice(model, inputs):
    """Two lists of outputs, of calls one after the other; the state of the model stays."""
    trainable = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]
    calls = []
    for _ in range(2):
        outputs, state = model.stateless_call(trainable, state, inputs, training=False)
        calls.append(keras.tree.flatten(outputs))
    return calls


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
    shape = [EXAMPLES, *(size if length is None else length for length in tensor.shape[1:])]
    if dtype == "string":
        return keras.ops.convert_to_tensor(generator.choice(words, shape).tolist(), dtype="string")
    if "int" in dtype and numbers and bound == INTEGERS[0]:
        array = generator.choice(numbers, shape)
    elif "int" in dtype or dtype == "bool":
        array = generator.integers(0, bound, shape)
    else:
        array = generator.standard_normal(shape)
    return keras.ops.convert_to_tensor(array, dtype=dtype)


def _vocabulary(model):
    """(words, integers) that the lookup layers know, and one that they do not."""
    words, numbers = ["unknown"], []
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, LOOKUPS):
            found = layer.get_vocabulary()[:100]
            words += [word for word in found if isinstance(word, str)]
            numbers += [int(word) for word in found if not isinstance(word, str)]
    return words, numbers
