"""Names the inputs and outputs of an export, and writes the files beside it."""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export.formats import Options
from lottery_tf.pruning import Array

ANY = 8  # stands for a length that a model leaves open
TOKENS = 2  # integer inputs are drawn below it: any embedding and vocabulary has so many


def input_names(model: keras.Model) -> list[str]:
    """Return the names of a model's inputs, in its order.

    Raises:
        InputError: the model is not functional or sequential, so its inputs are unknown.
    """
    if not getattr(model, "inputs", None):
        raise InputError(
            f"Expected a functional or sequential model, whose inputs are known. {model.name} is a "
            f"{type(model).__name__}. Call it in a functional model: keras.Model(x, model(x))."
        )
    return [tensor.name for tensor in model.inputs]


def packed(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Return {name: tensor} in the structure that a model takes."""
    flat = [inputs[name] for name in input_names(model)]
    # A sequential model has one input, and knows no structure before it is called.
    if isinstance(model, keras.Sequential):
        return flat[0]
    return keras.tree.pack_sequence_as(model.input, flat)


def outputs(model: keras.Model, tensors: Any, *, of_run: bool) -> dict[str, Any]:
    """Return {name: tensor} of a model's outputs; a run's network also gives probabilities."""
    flat = keras.tree.flatten(tensors)
    if of_run:
        logits = keras.ops.cast(flat[0], "float32")
        return {"logits": logits, "probabilities": keras.ops.softmax(logits)}
    return dict(zip(output_names(model), flat, strict=True))


def output_names(model: keras.Model) -> list[str]:
    """Return the names of a model's outputs: the keys of a dictionary, or the last layers'."""
    if isinstance(model, keras.Sequential):
        structure, names = model.outputs[0], [model.layers[-1].name]
    else:
        structure, names = model.output, list(model.output_names)
    if isinstance(structure, dict):
        names = sorted(structure)
    count = len(keras.tree.flatten(structure))
    if len(set(names)) == len(names) == count:
        return names
    return [f"output_{index}" for index in range(count)]


def random_inputs(model: keras.Model, examples: int) -> dict[str, Array]:
    """Draw {name: array (examples, …)} of the types that a model takes.

    Raises:
        InputError: an input is text, which cannot be drawn.
    """
    generator = np.random.default_rng(0)
    drawn: dict[str, Array] = {}
    for name, tensor in zip(input_names(model), model.inputs, strict=True):
        shape = (examples, *(length or ANY for length in tensor.shape[1:]))
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "string":
            raise InputError(f"Name an .npz of arrays by --inputs: {name} takes text.")
        if "int" in dtype or dtype == "bool":
            highest = 256 if dtype == "uint8" else TOKENS
            drawn[name] = generator.integers(0, highest, shape).astype(dtype)
        else:
            drawn[name] = generator.standard_normal(shape).astype(np.float32)
    return drawn


def served(model: keras.Model, options: Options) -> keras.Model:
    """Return a Keras model of the same weights, from a list of named inputs to named outputs."""
    inputs = {
        name: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    }
    given = model(packed(model, inputs), training=False)
    named = outputs(model, given, of_run=options.images)
    return keras.Model(list(inputs.values()), named, name=model.name)


def write_assets(directory: pathlib.Path, options: Options) -> None:
    """Write the texts of Options beside a model."""
    for name, text in options.assets.items():
        (directory / name).write_text(text, "utf-8")
