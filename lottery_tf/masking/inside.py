"""Masks the layers that other layers hold: attention, wrappers, and layers of the user's own."""

import functools
from collections.abc import Collection
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.layers import masked_class
from lottery_tf.masking.masks import (
    LEFT_DENSE,
    Masked,
    SaysWhatLoadsIt,
    naming_left_dense,
    with_left_dense,
)


class Composite(keras_private.AfterBuild, SaysWhatLoadsIt):
    """Mixin of Keras layers that make layers of their own, which are masked when it is built.

    `left_dense` holds the kernels in it without masks, as `<place of the layer>/<name>`.
    """

    left_dense: tuple[str, ...] = ()

    def after_build(self) -> None:
        mask_inside(self, self.left_dense)

    @classmethod
    def from_config(cls, config: dict) -> Any:
        return with_left_dense(super().from_config, config)


def _composite(base: Any, name: str = "") -> Any:
    """A masked subclass of a Keras layer, registered as Masked<name>."""
    members = {
        "__doc__": f"keras.layers.{base.__name__} whose inner layers are masked.",
        "__module__": "lottery_tf.masking",
        "plain": base,
        "get_config": naming_left_dense(base),
    }
    masked = type(f"Masked{name or base.__name__}", (Composite, base), members)
    return keras.saving.register_keras_serializable(package="lottery_tf")(masked)


MaskedMultiHeadAttention = _composite(keras.layers.MultiHeadAttention)
MaskedGroupQueryAttention = _composite(
    keras.layers.GroupQueryAttention,
    "GroupQueryAttention",  # as saved models name it
)
MaskedSimpleRNN = _composite(keras.layers.SimpleRNN)
MaskedGRU = _composite(keras.layers.GRU)
MaskedLSTM = _composite(keras.layers.LSTM)
MaskedConvLSTM1D = _composite(keras.layers.ConvLSTM1D)
MaskedConvLSTM2D = _composite(keras.layers.ConvLSTM2D)
MaskedConvLSTM3D = _composite(keras.layers.ConvLSTM3D)

# Keras layers that make layers of their own: the classes that mask those.
COMPOSITE = {layer.plain: layer for layer in Composite.__subclasses__()}


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedInside(keras_private.AfterBuild, SaysWhatLoadsIt):
    """Mixin of a layer or model that makes masked layers which its configuration does not hold.

    `masked_inside(base)` makes the subclass of each class. Its configuration is that of the plain
    layer and the name of the base, so that loading, which knows this mixin alone, finds both:
    the base is built as it is without masks, and then what it holds is masked.
    """

    plain: Any
    left_dense: tuple[str, ...] = ()  # as of a Composite
    _everything_masked = False

    def after_build(self) -> None:
        self._everything_masked = mask_inside(self, self.left_dense)

    def build_from_config(self, config: dict) -> None:
        super().build_from_config(config)  # Keras builds a model by a call alone
        self.after_build()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)
        if not self._everything_masked:  # some layers are built when they are first called
            self.after_build()
        return outputs

    def get_config(self) -> dict:
        try:
            config = plain_config(super().get_config())
        except NotImplementedError as error:  # Keras's, of a class with arguments it cannot guess
            raise InputError(
                f"{self.name} cannot be saved as a whole or copied: {self.plain.__name__} has no "
                "get_config. Use save_weights and load_weights, which keep the masks."
            ) from error
        if self.left_dense:
            config[LEFT_DENSE] = list(self.left_dense)
        return config | {"masks_inside": keras_private.class_name(self.plain)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        """The masked layer of a configuration, whichever the subclass that is asked."""
        config = dict(config)
        name = config.pop("masks_inside")
        known = getattr(cls, "plain", None)
        if not known or name != keras_private.class_name(known):
            known = keras_private.find_class(name, custom_objects)
        subclass = masked_inside(known)
        make = super(MaskedInside, subclass).from_config  # of `known`
        layer = with_left_dense(make, config)
        if layer.built:
            mask_inside(layer, layer.left_dense)
        return layer


@functools.cache
def masked_inside(base: Any) -> Any:
    """The subclass of a layer class that masks what its layers hold."""

    @functools.wraps(base.get_config)  # Keras asks whether it is its own
    def get_config(self):
        return MaskedInside.get_config(self)

    members = {
        "__doc__": f"{base.__name__} whose inner layers are masked.",
        "__module__": "lottery_tf.masking",
        "plain": base,
        "get_config": get_config,
    }
    if hasattr(base, "save_to_preset"):  # of keras_hub
        members["save_to_preset"] = _refuse_preset
    # Of the same name, after which Keras names places in files of weights.
    subclass = type(base.__name__, (MaskedInside, base), members)
    # All of them bear the name under which the mixin is found.
    register = keras.saving.register_keras_serializable("lottery_tf", "MaskedInside")
    register(subclass)
    register(MaskedInside)
    return subclass


def _refuse_preset(self: Any, *_: Any, **__: Any) -> None:
    """Raise InputError: `from_preset` finds a class by its name, and cannot read this one."""
    raise InputError(
        f"save_to_preset: {self.name} has masks, and from_preset could not read it. Save its plain "
        "copy, in which pruned weights are zeros: lottery_tf.unmasked(model).save_to_preset(path). "
        'To keep the masks, use model.save("model.keras") or model.save_weights(path).'
    )


def plain_config(config: Any) -> Any:
    """A configuration that names the plain classes in place of those that have a `plain` one."""
    if isinstance(config, list | tuple):
        return type(config)(map(plain_config, config))
    if not isinstance(config, dict):
        return config
    config = {key: plain_config(value) for key, value in config.items()}
    if "class_name" not in config or not isinstance(config.get("config"), dict):
        return config
    inner = {key: value for key, value in config["config"].items() if key != LEFT_DENSE}
    if "masks_inside" in inner:
        return config | inner.pop("masks_inside") | {"config": inner}
    known = keras.saving.get_registered_object(config.get("registered_name"))
    plain = getattr(known, "plain", None)
    return config | keras_private.class_name(plain) | {"config": inner} if plain else config


def mask_inside(layer: keras.Layer, left_dense: Collection[str] = ()) -> bool:
    """Masks, in place, the layers that a layer or model holds; False if some are not built yet.

    Args:
        layer: whose layers are masked.
        left_dense: kernels that get no mask, as `<place of the layer in it>/<name>`.
    """
    where = places(layer)
    held = keras_private.flatten_layers(layer, include_self=False)
    for inner in held:
        if masked_class(inner) and inner.built:
            _mask(inner, _below(where[id(inner)], left_dense))
    for inner in [*held, layer]:
        kind: Any = type(inner)
        if kind in COMPOSITE and (not inner.built or _holds_masks(inner)):
            inner.__class__ = COMPOSITE[kind]
        elif _forgets_masks(inner):
            inner.__class__ = masked_inside(kind)
        if inner is not layer and isinstance(inner, Composite | MaskedInside):
            inner.left_dense = _below(where[id(inner)], left_dense)
    if isinstance(layer, Composite | MaskedInside):
        layer.left_dense = tuple(left_dense)
    return all(inner.built for inner in held if masked_class(inner))


def unmask_inside(layer: keras.Layer) -> None:
    """Turn a layer or model, and all layers in it, back into the plain classes, in place."""
    for inner in keras_private.flatten_layers(layer):
        if isinstance(inner, Masked):
            inner.remove_masks()
        if isinstance(inner, Masked | Composite | MaskedInside):
            inner.__dict__.pop("left_dense", None)
            inner.__dict__.pop("saving_problem", None)
            inner.__class__ = inner.plain


def places(layer: keras.Layer, prefix: str = "") -> dict[int, list[str]]:
    """{id(inner layer): where it is held}: "2.0" is the first layer of the third one.

    Layers that are made later come behind, so places stay.
    """
    found: dict[int, list[str]] = {}
    for number, inner in enumerate(keras_private.inner_layers(layer)):
        place = f"{prefix}{number}"
        found.setdefault(id(inner), []).append(place)
        for key, below in places(inner, f"{place}.").items():
            found.setdefault(key, []).extend(below)
    return found


def _mask(layer, left_dense):
    """Gives a built layer masks, if any of its kernels has one."""
    masked = masked_class(layer)
    if not set(masked.kernel_names) <= set(left_dense):
        layer.__class__, layer.left_dense = masked, left_dense
        keras_private.add_weights(layer, layer.add_masks)


def _below(places, left_dense):
    """The kernels left dense below some places, as they are named there."""
    found = {
        one.removeprefix(f"{place}{end}")
        for one in left_dense
        for place in places
        for end in "./"  # of a layer in a layer, of a kernel in it
        if one.startswith(f"{place}{end}")
    }
    return tuple(sorted(found))


def _holds_masks(layer):
    held = keras_private.flatten_layers(layer, include_self=False)
    return any(isinstance(inner, Masked) for inner in held)


def _forgets_masks(layer):
    """Whether a layer holds masked layers that its configuration does not name."""
    known = isinstance(layer, MaskedInside | Composite)
    return not known and not keras_private.names_its_layers(layer) and _holds_masks(layer)
