"""Refuse objects that cannot get masks, each with the way out that fits it."""

from collections.abc import Iterable
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import choosing, keras_private
from lottery_tf.masking.layers import is_quantized

KERAS_2 = ("tf_keras", "tensorflow.python.keras")  # beginnings of the names of its modules
# {layer of keras_hub: the layer in it whose stored kernel it computes with}
READS_STORED = {"SAM3GeometryEncoder": "cls_embed"}
_OF_KERAS_2 = (
    "a Keras 2 model. Masks work with Keras 3 alone. To convert it, save it there by "
    'model.save("model.h5"), and load that file by keras.models.load_model("model.h5", '
    "compile=False) of Keras 3; or build the same layers in Keras 3 and call "
    "new.set_weights(old.get_weights()). Unset TF_USE_LEGACY_KERAS if tf.keras gives Keras 2."
)


def check(model: Any, of: str) -> None:
    """Raise InputError if an object is no Keras 3 model, or one whose kernels are quantized."""
    if not isinstance(model, keras.Model):
        raise InputError(f"{of}: expected a Keras 3 model. Received: {what_it_is(model)}")
    names = [one.name for one in keras_private.flatten_layers(model) if is_quantized(one)]
    if names and not choosing.candidates(model):
        raise InputError(
            f"{of}: the kernels of {model.name} are quantized ({choosing.shortened(names)}), and "
            "only kernels of floating-point numbers can be masked and trained. Begin with the "
            "model as it was before quantize(): mask, train and prune it, and then call "
            "lottery_tf.unmasked(model).quantize(...)."
        )


def check_maskable(model: keras.Model, of: str) -> None:
    """Raise InputError if no layer of a built model can get masks."""
    layers = keras_private.flatten_layers(model)
    if choosing.candidates(model) or not all(layer.built for layer in layers):
        return  # layers that are built by their first call get their masks then
    kinds = {
        type(one).__name__ for one in layers if one.weights and not keras_private.inner_layers(one)
    }
    held = ", ".join(sorted(kinds)) or "none"
    raise InputError(
        f"{of}: {model.name} has no kernel that can be masked. The layers that have weights: "
        f"{held}. Decorate a layer class of your own by "
        '@lottery_tf.masking.masked_layer("name of the kernel").'
    )


def check_readers(model: keras.Model, kept: Iterable[choosing.Candidate], of: str) -> None:
    """Raise InputError if a layer computes with what another layer stores, and a mask would hide.

    TensorFlow keeps what is stored for pruned weights at zero after each update. On other backends
    the gradients of such a layer would revive them. SpectralNormalization is masked, too.
    """
    if keras.backend.backend() == "tensorflow":
        return
    kernels = {id(one.variable): one for one in kept}
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, keras.layers.SpectralNormalization):
            continue
        read = keras_private.layer_variables(layer)
        if inner := getattr(layer, READS_STORED.get(type(layer).__name__, ""), None):
            read = [*read, *inner.weights]
        for one in (kernels[id(variable)] for variable in read if id(variable) in kernels):
            if one.layer is not layer:
                name = one.layer.name
                raise InputError(
                    f"{of}: the layer {layer.name} computes with what {name} stores in "
                    f"{one.variable.path}, past a mask. Let its call read {name}.{one.name}, or "
                    f"leave the kernel dense: exclude={name!r}."
                )


def what_it_is(given: Any) -> str:
    """Describe what was given instead of a model, and say how to get a model from it."""
    modules = [kind.__module__ for kind in type(given).__mro__]
    if any(module.split(".src")[0].startswith(KERAS_2) for module in modules):
        return f"{getattr(given, 'name', type(given).__name__)}, {_OF_KERAS_2}"
    if isinstance(given, keras.Layer):
        return (
            f"the layer {given.name}. Put it into a model: keras.Sequential([keras.Input(shape), "
            "layer])."
        )
    if isinstance(given, type):
        return f"the class {given.__name__}. Make a model of it first."
    if isinstance(given, str) or hasattr(given, "__fspath__"):
        return f"the path {given!s:.200}. Load it first, by keras.models.load_model(path)."
    return f"{given!r:.80}"
