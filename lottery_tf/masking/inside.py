"""Masks the layers that other layers hold: attention, wrappers, and layers of the user's own."""

import functools
from typing import Any

import keras

from lottery_tf.masking import keras_private
from lottery_tf.masking.layers import MASKED
from lottery_tf.masking.masks import Masked, SaysWhatLoadsIt


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedMultiHeadAttention(SaysWhatLoadsIt, keras.layers.MultiHeadAttention):
    """keras.layers.MultiHeadAttention whose four projections are masked."""

    plain = keras.layers.MultiHeadAttention

    def build(self, query_shape: tuple, value_shape: tuple, key_shape: Any = None) -> None:
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedGroupQueryAttention(SaysWhatLoadsIt, keras.layers.GroupQueryAttention):
    """keras.layers.GroupQueryAttention whose four projections are masked."""

    plain = keras.layers.GroupQueryAttention

    def build(self, query_shape: tuple, value_shape: tuple, key_shape: Any = None) -> None:
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


# Keras layers that make layers of their own when they are built: the classes that mask those.
COMPOSITE = {
    keras.layers.MultiHeadAttention: MaskedMultiHeadAttention,
    keras.layers.GroupQueryAttention: MaskedGroupQueryAttention,
}


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedInside(keras_private.AfterBuild, SaysWhatLoadsIt):
    """Mixin of a layer or model that makes masked layers which its configuration does not hold.

    `masked_inside(base)` makes the subclass of each class. Its configuration is that of the plain
    layer and the name of the base, so that loading, which knows this mixin alone, finds both:
    the base is built as it is without masks, and then what it holds is masked.
    """

    plain: Any
    _everything_masked = False

    def after_build(self) -> None:
        self._everything_masked = mask_inside(self)

    def build_from_config(self, config: dict) -> None:
        super().build_from_config(config)  # Keras builds a model by a call alone
        self.after_build()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)
        if not self._everything_masked:  # some layers are built when they are first called
            self.after_build()
        return outputs

    def get_config(self) -> dict:
        config = plain_config(super().get_config())
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
        layer = super(MaskedInside, subclass).from_config(config)  # of `known`
        if layer.built:
            mask_inside(layer)
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
    # Of the same name, after which Keras names places in files of weights.
    subclass = type(base.__name__, (MaskedInside, base), members)
    # All of them bear the name under which the mixin is found.
    register = keras.saving.register_keras_serializable("lottery_tf", "MaskedInside")
    register(subclass)
    register(MaskedInside)
    return subclass


def plain_config(config: Any) -> Any:
    """A configuration that names the plain classes in place of those that have a `plain` one."""
    if isinstance(config, list | tuple):
        return type(config)(map(plain_config, config))
    if not isinstance(config, dict):
        return config
    config = {key: plain_config(value) for key, value in config.items()}
    if "class_name" not in config or not isinstance(config.get("config"), dict):
        return config
    if "masks_inside" in config["config"]:
        inner = dict(config["config"])
        return config | inner.pop("masks_inside") | {"config": inner}
    known = keras.saving.get_registered_object(config.get("registered_name"))
    plain = getattr(known, "plain", None)
    return config | keras_private.class_name(plain) if plain else config


def mask_inside(layer: keras.Layer) -> bool:
    """Masks, in place, the layers that a layer or model holds; False if some are not built yet."""
    held = keras_private.flatten_layers(layer, include_self=False)
    for inner in held:
        if type(inner) in MASKED and inner.built:
            inner.__class__ = MASKED[type(inner)]
            keras_private.add_weights(inner, inner.add_masks)
        elif type(inner) in COMPOSITE:
            inner.__class__ = COMPOSITE[type(inner)]
    for inner in [*held, layer]:
        if _forgets_masks(inner):
            kind: Any = type(inner)
            inner.__class__ = masked_inside(kind)
    return not any(type(inner) in MASKED for inner in held)


def _forgets_masks(layer):
    """Whether a layer holds masked layers that its configuration does not name."""
    known = isinstance(layer, MaskedInside) or type(layer) in COMPOSITE.values()
    if known or keras_private.names_its_layers(layer):
        return False
    held = keras_private.flatten_layers(layer, include_self=False)
    return any(isinstance(inner, Masked) for inner in held)
