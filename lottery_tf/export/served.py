"""A model as it is served: inputs by name, a dictionary of outputs, assets beside it."""

import pathlib

import keras

from lottery_tf.export import signatures
from lottery_tf.export.options import Options


def served(model: keras.Model, options: Options) -> keras.Model:
    """A Keras model of the same weights that takes a list of named inputs.

    It gives {name: tensor}: `logits` and `probabilities` of a run's network, else what
    signatures.output_names says.
    """
    inputs = {
        name: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for name, tensor in zip(signatures.input_names(model), model.inputs, strict=True)
    }
    outputs = keras.tree.flatten(model(signatures.packed(model, inputs), training=False))
    if options.images:
        logits = keras.ops.cast(outputs[0], "float32")
        found = {"logits": logits, "probabilities": keras.ops.softmax(logits)}
    else:
        found = dict(zip(signatures.output_names(model), outputs, strict=True))
    return keras.Model(list(inputs.values()), found, name=model.name)


def write_assets(directory: pathlib.Path, options: Options) -> None:
    """Puts the texts of Options beside a model."""
    for name, text in options.assets.items():
        (directory / name).write_text(text, "utf-8")
