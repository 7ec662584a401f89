"""Copies of Keras models: the same layers with the same names, weights and state."""

import contextlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras

from lottery_tf.errors import InputError, is_ours
from lottery_tf.masking import keras_private
from lottery_tf.masking.inside import plain_config
from lottery_tf.masking.masks import LEFT_DENSE, KeepMasked, Mask, Masked
from lottery_tf.pruning import Array

# What training leaves in a model, and a copy does without; `rounds` sets compile meanwhile.
OF_TRAINING = {
    "history", "optimizer", "stop_training", "stop_predicting", "stop_evaluating", "compile",
}  # fmt: skip


def copy(model: Any, weights: list[Array], *, plain: bool = False) -> Any:
    """A new model of the same layers, with a model's state. It is not compiled.

    Args:
        model: a built keras.Model.
        weights: those of the copy, in Keras's order.
        plain: whether masked layers become the Keras layers that they mask.

    Raises:
        InputError: Keras cannot rebuild it as it is.
    """
    try:
        new = rebuild(model, plain=plain)
    except InputError as error:
        raise InputError(_why_not(model, plain, error)) from error
    _check_attributes(model, new)
    _check_layers(model, new, plain)
    try:
        copy_state(model, new)
        new.set_weights(weights)
        new.built = True  # Keras builds a subclassed model by a call alone; its layers are built
    except Exception as error:  # whatever Keras and the user's classes raise
        if is_ours(error):
            raise
        reason = f"{type(error).__name__}: {keras_private.cause(error)}"
        raise InputError(_why_not(model, plain, reason)) from error
    copy_training(model, new, plain)
    return new


def _why_not(model: Any, plain: bool, reason: object) -> str:
    return (
        f"{model.name} cannot be copied: it is, or holds, a subclassed model or layer that "
        f"Keras cannot rebuild. {_way_out(plain)} Or give the class get_config and from_config. "
        f"{reason}"
    )


def _check_layers(model, new, plain):
    """Raise InputError if a copy has other layers, as where an attribute holds a model."""
    old, found = (_computing(one) for one in (model, new))
    if len(old) != len(found):
        names = {layer.name for layer in found}
        missing = [layer.name for layer in old if layer.name not in names]
        raise InputError(
            f"{model.name} cannot be copied: it has {len(old)} layers, its copy {len(found)}. "
            f"Missing: {', '.join(missing) or 'none of these names'}. {_way_out(plain)}"
        )


@contextlib.contextmanager
def _can_be_saved(model):
    """While it is open, layers do not refuse to be saved: a copy does not come from a file."""
    problems = {
        layer: layer.saving_problem
        for layer in keras_private.flatten_layers(model)
        if getattr(layer, "saving_problem", "")
    }
    for layer in problems:
        layer.saving_problem = ""
    try:
        yield
    finally:
        for layer, problem in problems.items():
            layer.saving_problem = problem


_IN_PLACE = "lottery_tf.mask(model) masks the model itself, without a copy."
_PLAIN = "lottery_tf.unmask(model) makes the model itself plain, without a copy."


def _way_out(plain):
    return _PLAIN if plain else _IN_PLACE


def rebuild(
    model: Any,
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    *,
    plain: bool = False,
    same_class: bool = True,
) -> Any:
    """Return a new model of the same layers, whose weights are drawn anew. It is not compiled.

    It has the variables of the model, in their order, if its classes rebuild all that they hold:
    the caller compares them.

    Args:
        model: a built model, or a layer.
        change: takes the configuration of a layer, and returns the one to make the new layer from.
        plain: whether masked layers become the Keras layers that they mask.
        same_class: whether a subclass of a functional or sequential model with a constructor of
            its own is rebuilt by its own `from_config`. If not, the new model is a plain one that
            computes the same.

    Raises:
        InputError: Keras cannot rebuild it; the message gives Keras's reason alone.
    """

    def new_layer(layer: Any) -> Any:
        config, kind = layer.get_config(), type(layer)
        if plain:
            config, kind = plain_config(config), getattr(layer, "plain", kind)
            for ours in ("masks_inside", LEFT_DENSE):
                config.pop(ours, None)
        return kind.from_config(change(config) if change else config)

    if same_class:
        as_clone = type(model) is keras.Sequential or keras_private.is_functional(model)
    else:
        as_clone = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    try:
        with keras_private.uncompiled(model), keras_private.own_objects(), _can_be_saved(model):
            if as_clone:
                # Rebuilding nested models as a whole gives variables the paths that finished runs
                # have, but layers of their own to models that share some.
                return keras.models.clone_model(
                    model,
                    clone_function=new_layer,
                    recursive=keras_private.shares_layers(model),
                )
            new = new_layer(model)
            if not new.built:
                # Of the plain class: the copy need not be one that loads from a file.
                kind: Any = getattr(model, "plain", type(model))
                if build_config := kind.get_build_config(model):
                    new.build_from_config(build_config)
            return new
    except Exception as error:  # whatever Keras and the user's classes raise
        if is_ours(error):
            raise
        raise InputError(f"{type(error).__name__}: {keras_private.cause(error)}") from error


def copy_state(model: keras.Layer, new: keras.Layer) -> None:
    """Gives the layers of a copy what their own ways of saving keep outside of weights."""
    for old_layer, new_layer in zip(*map(_computing, (model, new)), strict=True):
        own_way = type(new_layer).load_own_variables is not keras.layers.Layer.load_own_variables
        if own_way and not isinstance(old_layer, Masked):  # as Normalization does
            store: dict[str, Any] = {}
            old_layer.save_own_variables(store)
            new_layer.load_own_variables(store)
        if hasattr(old_layer, "save_assets"):  # the vocabularies of lookup layers
            with tempfile.TemporaryDirectory() as directory:
                old_layer.save_assets(directory)
                new_layer.load_assets(directory)


def copy_training(model: keras.Layer, new: keras.Layer, plain: bool) -> None:
    """Give a copy what acts only in training and may be set after a layer is made.

    These are the `trainable` flags of all layers, nested models and variables, the regularizers
    and constraints of variables, and the state of random numbers with a seed of their own.

    Raises:
        InputError: a layer of the copy computes in another dtype, which is decided when it is made.
    """
    _copy_flags(model, new)
    for old_layer, new_layer in zip(*map(_computing, (model, new)), strict=True):
        if old_layer.dtype_policy != new_layer.dtype_policy:
            raise InputError(
                f"{model.name} cannot be copied: its layer {old_layer.name} has the dtype policy "
                f"{old_layer.dtype_policy.name}, that of its copy {new_layer.dtype_policy.name}. "
                "Let get_config begin with super().get_config(), which holds the dtype. "
                f"{_way_out(plain)}"
            )
        new_layer.autocast = old_layer.autocast
        own = keras_private.layer_variables(old_layer), keras_private.layer_variables(new_layer)
        for old, fresh in zip(*map(_unmasked, own), strict=True):
            fresh.trainable = old.trainable
            fresh.regularizer = old.regularizer
            _copy_constraint(old, fresh)
        for old, fresh in zip(*map(_seeded, (old_layer, new_layer)), strict=True):
            fresh.state.assign(old.state)


def _copy_flags(layer, new):
    """Set the `trainable` flags of a layer and of all that it holds, the outermost first."""
    new.trainable = layer.trainable
    inner = keras_private.inner_layers(layer), keras_private.inner_layers(new)
    for one, other in zip(*inner, strict=True):
        _copy_flags(one, other)


def _copy_constraint(old, fresh):
    own = (
        old.constraint.user_constraint if isinstance(old.constraint, KeepMasked) else old.constraint
    )
    if isinstance(fresh.constraint, KeepMasked):
        fresh.constraint.user_constraint = own
    else:
        fresh.constraint = own


def _unmasked(variables):
    return [variable for variable in variables if not isinstance(variable, Mask)]


def _seeded(layer):
    """The generators of a layer whose user gave a seed: without one, copies draw their own."""
    return keras_private.seed_generators(layer) if getattr(layer, "seed", None) is not None else []


def _computing(model):
    """Its layers but inputs, which a model and one in it may share, and their copies do not."""
    layers = keras_private.flatten_layers(model)
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def _check_attributes(model, new):
    """InputError if the user's own class holds values that its copy does not have."""
    ignored = vars(keras.Model()).keys() | OF_TRAINING
    found = vars(new)
    for name, value in vars(model).items():
        if name.startswith("_") or name in ignored:
            continue
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if name not in found or (is_plain and found[name] != value):
            raise InputError(
                f"{model.name} cannot be copied: its attribute {name} is {value!r}, that of its "
                f"copy {found.get(name, 'not there')!r}. Let __init__ set it, and get_config and "
                f"from_config of {type(model).__name__} carry it."
            )
