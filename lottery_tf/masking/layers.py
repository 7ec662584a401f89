"""The masked subclasses of Keras's layers, and of the user's own."""

from collections.abc import Callable
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.masks import Masked, mask_name, naming_left_dense, select


def _masked_property(base, name):
    inherited = getattr(base, name, None)
    inherited = inherited if isinstance(inherited, property) else None

    def get(self):
        if not inherited and name not in self.__dict__:
            raise AttributeError(f"{self.name} has no {name} before it is built.")
        kernel = inherited.fget(self) if inherited else self.__dict__[name]
        mask = self.__dict__.get(mask_name(name))
        return kernel if mask is None else select(mask, kernel)  # none while it is built

    def put(self, variable):
        self.__dict__[name] = variable

    return property(get, None if inherited else put, doc="The kernel under its mask.")


def _masked_class(base, kernel_names=("kernel",), package="lottery_tf", **members):
    """A masked subclass of a layer that keeps its kernels under these names."""
    own_saving = base.save_own_variables is not keras.layers.Layer.save_own_variables
    members |= {name: _masked_property(base, name) for name in kernel_names}
    members |= {
        "__doc__": f"{base.__name__} with a mask beside its kernel.",
        "__module__": "lottery_tf.masking" if package == "lottery_tf" else base.__module__,
        "kernel_names": kernel_names,
        "get_config": naming_left_dense(base),
        "plain": base,
        # Layers with a saving of their own list their weights in it, without masks.
        "saves_kernels_alone": own_saving,
    }
    masked = type(f"Masked{base.__name__}", (Masked, base), members)
    return keras.saving.register_keras_serializable(package)(masked)


MaskedDense = _masked_class(keras.layers.Dense)
MaskedEinsumDense = _masked_class(keras.layers.EinsumDense)
MaskedConv1D = _masked_class(keras.layers.Conv1D)
MaskedConv2D = _masked_class(keras.layers.Conv2D)
MaskedConv3D = _masked_class(keras.layers.Conv3D)
MaskedConv1DTranspose = _masked_class(keras.layers.Conv1DTranspose)
MaskedConv2DTranspose = _masked_class(keras.layers.Conv2DTranspose)
MaskedConv3DTranspose = _masked_class(keras.layers.Conv3DTranspose)
MaskedDepthwiseConv1D = _masked_class(keras.layers.DepthwiseConv1D)
MaskedDepthwiseConv2D = _masked_class(keras.layers.DepthwiseConv2D)
_BOTH = ("depthwise_kernel", "pointwise_kernel")
MaskedSeparableConv1D = _masked_class(keras.layers.SeparableConv1D, _BOTH)
MaskedSeparableConv2D = _masked_class(keras.layers.SeparableConv2D, _BOTH)

# The cells of recurrent layers, which compute with what these properties give, on cuDNN too.
_RECURRENT = ("kernel", "recurrent_kernel")
MaskedSimpleRNNCell = _masked_class(keras.layers.SimpleRNNCell, _RECURRENT)
MaskedGRUCell = _masked_class(keras.layers.GRUCell, _RECURRENT)
MaskedLSTMCell = _masked_class(keras.layers.LSTMCell, _RECURRENT)
MaskedConvLSTMCell = _masked_class(keras_private.ConvLSTMCell, _RECURRENT)


def _build_embedding(self, input_shape=None):
    if not self.built:  # it needs no shape, so a layer that holds it may have built it
        Masked.build(self, input_shape)


def _look_up(self, inputs):
    """The rows of a table under its mask, without a masked copy of the whole table."""
    if self.lora_enabled:  # the rows are sums
        return self.plain.call(self, inputs)
    if "int" not in keras.backend.standardize_dtype(inputs.dtype):
        inputs = keras.ops.cast(inputs, "int32")
    rows, alive = (
        keras.ops.take(table, inputs, axis=0) for table in (self._embeddings, self.embeddings_mask)
    )
    return keras.ops.cast(select(alive, rows), self.compute_dtype)


def _enable_lora(self, *args, **options):
    self.plain.enable_lora(self, *args, **options)
    self._embeddings.trainable = False  # Keras asks it of what `embeddings` gives


_TABLE: dict[str, Any] = {"build": _build_embedding, "enable_lora": _enable_lora}
MaskedEmbedding = _masked_class(keras.layers.Embedding, ("embeddings",), call=_look_up, **_TABLE)
# With tied weights it computes its outputs with the masked table, too.
_REVERSIBLE = getattr(keras.layers, "ReversibleEmbedding", None)  # Keras has it from 3.12 on
MaskedReversibleEmbedding = _REVERSIBLE and _masked_class(_REVERSIBLE, ("embeddings",), **_TABLE)

# Keras layer: its masked subclass. Exactly these classes: a subclass of the user's own may
# compute otherwise.
MASKED = {layer.plain: layer for layer in Masked.__subclasses__()}


def masked_class(layer: Any) -> Any:
    """Return the masked class of a plain layer; None where masks do not know the layer."""
    return None if is_quantized(layer) else MASKED.get(type(layer))


def is_quantized(layer: Any) -> bool:
    """Return whether a layer computes with a quantized kernel."""
    return getattr(layer, "quantization_mode", None) is not None


OF_MASKED = ("kernels", "kernel_names", "add_masks", "saved_masks", "plain")


def masked_layer(*kernels: str) -> Callable[[type], type]:
    """Class decorator: lets `masked` mask a layer of your own, and leaves the class as it is.

    The layer keeps each of these kernels in an attribute, as `self.kernel = self.add_weight(…)`,
    by the end of its `build`, and computes with what the attribute gives. Its masked subclass,
    `MASKED[cls]`, gives it under the mask. `lottery_tf.testing.check_masked_layer` checks it.

    Args:
        kernels: the names of the attributes.

    Raises:
        InputError: a name is none, or no layer is decorated.
    """
    if not kernels or not all(isinstance(name, str) and name.isidentifier() for name in kernels):
        raise InputError(
            "masked_layer: expected the names of the attributes that hold the kernels, as in "
            f'@masked_layer("kernel"). Received: {", ".join(map(repr, kernels)) or "none"}'
        )

    def register(base: type) -> type:
        if not isinstance(base, type) or not issubclass(base, keras.Layer):
            raise InputError(f"masked_layer: expected a class of keras.Layer. Received: {base!r}")
        if taken := [name for name in OF_MASKED if name in kernels or hasattr(base, name)]:
            raise InputError(
                f"masked_layer: masked layers have attributes {', '.join(OF_MASKED)} of their "
                f"own. Rename those of {base.__name__}. Received: {', '.join(taken)}"
            )
        package, _, _ = keras.saving.get_registered_name(base).rpartition(">")
        MASKED[base] = _masked_class(base, kernels, package or "Custom")
        return base

    return register
