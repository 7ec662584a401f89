"""Writes a .keras file of plain layers, which Keras loads on any backend without this package."""

import contextlib
import pathlib
import re

import keras

from lottery_tf.errors import InputError
from lottery_tf.export import reproducible, signatures
from lottery_tf.export.formats import Options
from lottery_tf.masking import keras_private
from lottery_tf.models.layers import PadChannels
from lottery_tf.models.normalization import FusedBatchNormalization


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write model.keras; the output of a run's network is called `logits`.

    With `repository`, Keras saves into the directory itself, as Hugging Face's hub has it.
    """
    model = of_keras(model, options)
    if options.repository:
        model.save(directory, zipped=False)
        with contextlib.suppress(OSError):  # unless there are assets of the user's layers
            (directory / "assets").rmdir()
        reproducible.keras_directory(directory, options.date)
    else:
        model.save(directory / "model.keras")
        reproducible.keras_archive(directory / "model.keras", options.date)
    signatures.write_assets(directory, options)


def load(directory: str) -> keras.Model:
    """Return the model. It runs where this package cannot be imported."""
    import os

    import keras

    path = f"{directory}/model.keras"
    return keras.models.load_model(path if os.path.exists(path) else directory, compile=False)


def of_keras(model: keras.Model, options: Options) -> keras.Model:
    """Return a model with Keras's own layers in place of this package's, and all others kept."""
    layers = keras_private.flatten_layers(model)
    if any(isinstance(layer, FusedBatchNormalization | PadChannels) for layer in layers):
        weights = model.get_weights()
        model = keras.models.clone_model(model, clone_function=_plain, recursive=True)
        model.set_weights(weights)
    if options.images and signatures.output_names(model) != ["logits"]:
        logits = keras.layers.Identity(name="logits")(model.outputs[0])
        model = keras.Model(model.inputs, logits, name=model.name)
    ours = sorted(set(re.findall(r'"registered_name": "lottery_tf>(.*?)"', model.to_json())))
    if ours:
        raise InputError(
            f"{model.name}: expected layers of Keras or your own. Received {', '.join(ours)}, "
            "which needs this package to load. Take lottery_tf.unmasked(model) first."
        )
    return model


def _plain(layer: keras.Layer) -> keras.Layer:
    """Return a layer of Keras that computes the same."""
    config = layer.get_config()
    if isinstance(layer, FusedBatchNormalization):
        return keras.layers.BatchNormalization.from_config(config)
    if isinstance(layer, PadChannels):
        # Keras pads the axes of space: the channels become the width for a while.
        added = layer.channels - layer.input.shape[-1]
        pad = keras.layers.ZeroPadding2D(((0, 0), (0, added)))
        swap, back = keras.layers.Permute((1, 3, 2)), keras.layers.Permute((1, 3, 2))
        return keras.Sequential([swap, pad, back], name=layer.name)
    return type(layer).from_config(config)
