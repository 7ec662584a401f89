"""Fresh weights of a Keras model, drawn by its own initializers."""

import functools
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import copying, keras_generators, keras_private
from lottery_tf.pruning import Weights, streams

# Resets that draw fresh weights.
FRESH = ("reinit", "signs", "trained_signs")


def initialization(model: keras.Model, start: Weights, seed: int, round: int) -> Weights:
    """Return {variable path: array}: what trains, drawn anew by its own initializers.

    Statistics of trainable BatchNorm layers begin again. All else stays as it started: frozen
    layers, adapted statistics, tables. The draw is a function of (seed, round) alone.

    Args:
        model: a built model.
        start: {variable path: array}, of round 0.
        seed: of all rounds.
        round: its number, from 1.

    Raises:
        InputError: the model cannot be rebuilt.
    """
    drawn = keras_generators.from_seed(
        streams.initialization_seed(seed, round), functools.partial(_drawn, model)
    )
    anew = _begins_anew(model)
    return {
        path: drawn[id(variable)].numpy() if id(variable) in anew else start[path]
        for path, variable in masking.variables(model).items()
    }


def _drawn(layer: keras.Layer) -> dict[int, keras.Variable]:
    """Return {id(variable): the one like it, drawn anew} from a copy of a layer or its parts."""
    try:
        copy = _rebuilt(layer)
    except InputError:
        parts = keras_private.inner_layers(layer)
        of_parts = {id(weight) for part in parts for weight in part.weights}
        if any(id(weight) not in of_parts for weight in layer.trainable_weights):
            raise
        # As a VAE or a GAN is written: what has weights are layers that can be copied.
        return {key: new for part in parts if part.weights for key, new in _drawn(part).items()}
    # A copy may name its nested variables otherwise; their order is the layer's.
    pairs = zip(_without_masks(layer), _without_masks(copy), strict=True)
    return {id(old): new for old, new in pairs}


def _without_masks(layer: keras.Layer) -> list[keras.Variable]:
    """Return the weights of a layer or model, without its masks."""
    return [weight for weight in layer.weights if not isinstance(weight, masking.Mask)]


def _begins_anew(model: keras.Model) -> set[int]:
    """Return the ids of the variables that a fresh initialization sets."""
    found = {id(variable) for variable in model.trainable_variables}
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            found |= {id(variable) for variable in layer.weights}
    return found


def _rebuilt(model: keras.Layer) -> keras.Layer:
    """Return a new model of the same layers, which draws from the generators as they are."""
    try:
        copy = copying.rebuild(model, _without_seeds, same_class=False)
        if len(_without_masks(copy)) != len(_without_masks(model)):
            raise InputError("the copy has other variables.")
    except InputError as error:
        raise InputError(
            f"reset: fresh weights are drawn by a copy of the model, but {model.name} cannot be "
            "rebuilt. Write it as a functional model, give its class get_config() and "
            f"build_from_config(), or use another reset, as init. {error}"
        ) from error
    return copy


def _without_seeds(config: Any, name: str = "") -> Any:
    """Return a layer's configuration without the seeds of its initializers."""
    if isinstance(config, list | tuple):
        return type(config)(_without_seeds(item, name) for item in config)
    if not isinstance(config, dict):
        return config
    config = {key: _without_seeds(value, str(key)) for key, value in config.items()}
    inner = config.get("config")
    if name.endswith("initializer") and isinstance(inner, dict) and "seed" in inner:
        config["config"] = inner | {"seed": None}
    return config
