"""A .keras file of plain layers, which Keras loads on any backend without this package."""

import json
import pathlib

import keras

from lottery_tf.errors import InputError
from lottery_tf.export.options import Options
from lottery_tf.export.served import write_assets
from lottery_tf.masking import keras_private
from lottery_tf.models.layers import PadChannels
from lottery_tf.models.normalization import FusedBatchNormalization


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Writes model.keras: the model, whose output is called `logits` if it is a run's network.

    Args:
        model: a plain Keras model.
        directory: where to write.
        options: Options; their assets lie beside the file.

    Raises:
        InputError: a layer is this package's, and Keras has none like it.
    """
    of_keras(model, options).save(directory / "model.keras")
    write_assets(directory, options)


def of_keras(model: keras.Model, options: Options) -> keras.Model:
    """A model with Keras's own layers where this package's were, and all others as they are.

    Raises:
        InputError: a layer is this package's, and Keras has none like it.
    """
    layers = keras_private.flatten_layers(model)
    if any(isinstance(layer, FusedBatchNormalization | PadChannels) for layer in layers):
        weights = model.get_weights()
        model = keras.models.clone_model(model, clone_function=_plain, recursive=True)
        model.set_weights(weights)
    if options.images and model.output_names != ["logits"]:
        logits = keras.layers.Identity(name="logits")(model.output)
        model = keras.Model(model.inputs, logits, name=model.name)
    ours = sorted(set(_registered_here(json.loads(model.to_json()))))
    if ours:
        raise InputError(
            f"{model.name}: expected layers of Keras or your own. Received {', '.join(ours)}, "
            "which needs this package to load. Take lottery_tf.unmasked(model) first."
        )
    return model


def _plain(layer):
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


def _registered_here(config):
    """The registered names of this package's in a model's configuration."""
    if isinstance(config, dict):
        name = config.get("registered_name")
        if isinstance(name, str) and name.startswith("lottery_tf>"):
            yield name.removeprefix("lottery_tf>")
    values = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        for value in values:
            yield from _registered_here(value)
