"""What an export takes and gives: names, shapes and types."""

from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array

ANY = 8  # stands for a length that a model leaves open
TOKENS = 2  # integer inputs are drawn below it: any embedding and vocabulary has so many


def input_names(model: keras.Model) -> list[str]:
    """The names of a model's inputs, in its order.

    Raises:
        InputError: the model is not functional or sequential, so nothing says what it takes.
    """
    if not getattr(model, "inputs", None):
        raise InputError(
            f"Expected a functional or sequential model, whose inputs are known. {model.name} is a "
            f"{type(model).__name__}. Call it in a functional model: keras.Model(x, model(x))."
        )
    return [tensor.name for tensor in model.inputs]


def packed(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """{name: tensor} in the structure that a model takes."""
    flat = [inputs[name] for name in input_names(model)]
    # A sequential model has one input, and knows no structure before it is called.
    if isinstance(model, keras.Sequential):
        return flat[0]
    return keras.tree.pack_sequence_as(model.input, flat)


def outputs(model: keras.Model, found: Any, *, of_run: bool) -> dict[str, Any]:
    """{name: tensor} of what a model gives, in a TensorFlow graph.

    Args:
        of_run: whether it is a run's network: logits, float32, and probabilities.
    """
    import tensorflow as tf

    if of_run:
        logits = tf.cast(found, tf.float32)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}
    flat = keras.tree.flatten(found)
    return dict(zip(output_names(model), flat, strict=True))


def output_names(model: keras.Model) -> list[str]:
    """The names of a model's outputs: the keys of a dictionary, or those of the last layers."""
    structure = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    names = sorted(structure) if isinstance(structure, dict) else _layer_names(model)
    count = len(keras.tree.flatten(structure))
    if len(set(names)) == len(names) == count:
        return names
    return [f"output_{index}" for index in range(count)]


def _layer_names(model):
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(model.output_names)


def random_inputs(model: keras.Model, examples: int) -> dict[str, Array]:
    """{name: array (examples, …)} of the types that a model takes, drawn at random.

    Raises:
        InputError: an input of text, which nothing can be drawn for.
    """
    generator, found = np.random.default_rng(0), {}
    for name, tensor in zip(input_names(model), model.inputs, strict=True):
        shape = (examples, *(length or ANY for length in tensor.shape[1:]))
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "string":
            raise InputError(f"Name an .npz of arrays by --inputs: {name} takes text.")
        if "int" in dtype or dtype == "bool":
            highest = 256 if dtype == "uint8" else TOKENS
            found[name] = generator.integers(0, highest, shape).astype(dtype)
        else:
            found[name] = generator.standard_normal(shape).astype(np.float32)
    return found
