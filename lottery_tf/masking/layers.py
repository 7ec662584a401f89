"""The masked subclasses of Keras's layers and of the user's own.

There are three kinds of them, all of them a `MaskedSubclass`:

- `Masked`: a layer with kernels of its own, such as Dense. A mask lies beside each kernel.
- `Composite`: a Keras layer that makes layers with kernels when it is built, such as
  MultiHeadAttention. Its class masks those layers again wherever Keras rebuilds it.
- `MaskedInside`: the same for a layer or model of the user's own class.

`mask_inside` puts masks on a model, and `unmask_inside` takes them off. Both turn layers, in place,
into instances of these subclasses or of the plain classes: see `_change_class`.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private, low_rank
from lottery_tf.masking.mask_variable import (
    Kernel,
    Mask,
    SavedMasks,
    keep_masked,
    select,
    user_terms,
    zero_pruned,
)

__all__ = [
    "MASKED",
    "Masked",
    "MaskedConv1D",
    "MaskedConv1DTranspose",
    "MaskedConv2D",
    "MaskedConv2DTranspose",
    "MaskedConv3D",
    "MaskedConv3DTranspose",
    "MaskedConvLSTM1D",
    "MaskedConvLSTM2D",
    "MaskedConvLSTM3D",
    "MaskedDense",
    "MaskedDepthwiseConv1D",
    "MaskedDepthwiseConv2D",
    "MaskedEinsumDense",
    "MaskedEmbedding",
    "MaskedGRU",
    "MaskedGRUCell",
    "MaskedGroupQueryAttention",
    "MaskedInside",
    "MaskedLSTM",
    "MaskedLSTMCell",
    "MaskedMultiHeadAttention",
    "MaskedReversibleEmbedding",
    "MaskedSeparableConv1D",
    "MaskedSeparableConv2D",
    "MaskedSimpleRNN",
    "MaskedSimpleRNNCell",
    "mask_inside",
    "masked_layer",
]

BACKENDS = ("tensorflow", "jax", "torch")
LEFT_DENSE = "left_dense"  # the key in configurations
_TO_LOAD = "before load_model"  # the key in configurations of building
_Mixin: Any = object  # the mixins call methods of the Keras layer that stands beside them


class MaskedSubclass(_Mixin):
    """Mixin of every masked subclass: what its configurations hold beside those of the plain class.

    Keras asks for the configuration of building when it saves a model. It prints it at the end of
    its error if it does not find the class of a saved layer: so that error says what to import.
    """

    plain: Any  # the class of the layer without masks
    left_dense: tuple[str, ...] = ()  # kernels without a mask, by name or <place of a layer>/<name>
    saving_problem = ""  # why a file of the whole model could not be loaded

    def get_build_config(self) -> dict | None:
        if self.saving_problem:
            raise InputError(self.saving_problem)
        config = super().get_build_config()
        # A user's class stands in the module that registers it. Ours are named after the package
        # that makes them.
        return config and config | {_TO_LOAD: f"import {type(self).__module__}"}

    def build_from_config(self, config: dict) -> None:
        super().build_from_config({k: value for k, value in config.items() if k != _TO_LOAD})

    @classmethod
    def from_config(cls, config: dict) -> Any:
        plain = {key: value for key, value in config.items() if key != LEFT_DENSE}
        layer = super().from_config(plain)
        layer.left_dense = tuple(config.get(LEFT_DENSE, ()))
        return layer


def _subclass(
    mixin: type, base: Any, members: dict[str, Any], *, name: str = "", package: str = "lottery_tf"
) -> Any:
    """Return a subclass of a layer class with a mixin, registered with Keras as Masked<name>."""

    @functools.wraps(base.get_config)  # Keras asks whether it is its own
    def get_config(self: Any) -> dict:
        config = base.get_config(self)
        return config | {LEFT_DENSE: list(self.left_dense)} if self.left_dense else config

    members = members | {
        "__doc__": f"{base.__name__} with masks beside its kernels.",
        "__module__": "lottery_tf.masking" if package == "lottery_tf" else base.__module__,
        "get_config": get_config,
        "plain": base,
    }
    masked = type(f"Masked{name or base.__name__}", (mixin, base), members)
    return keras.saving.register_keras_serializable(package)(masked)


class Masked(MaskedSubclass):
    """Mixin of the layers that compute with each of their kernels under its mask.

    A mask is a non-trainable bool weight of the kernel's shape beside it, True where the weight
    lives. Keras saves and loads it with the layer, and pruned weights as zeros.
    """

    kernel_names: tuple[str, ...]  # the attributes that hold the kernels
    saves_kernels_alone: bool  # whether `plain` lists what it saves, so that masks are not in it
    _gives_variables = False  # whether the attributes give what is stored, while `plain` loads it

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        keras_private.add_weights(self, self.add_masks)  # LoRA locks the layer while it is built

    def add_masks(self) -> None:
        """Give every kernel of a built layer, but those left dense, a mask that keeps all of it.

        Raises:
            InputError: masks do not hold on Keras's backend.
        """
        if keras.backend.backend() not in BACKENDS:
            raise InputError(
                f"Masks hold in training on the backends {', '.join(BACKENDS)}. Received: "
                f"{keras.backend.backend()}. Set KERAS_BACKEND, and load the plain model that "
                "lottery_tf.unmasked gives on any other."
            )
        for name, variable in self._kernel_variables().items():
            options = {"shape": variable.shape, "dtype": "bool", "trainable": False}
            mask = keras_private.add_variable(
                self, Mask, name=mask_name(name), initializer="ones", **options
            )
            mask.kernel = variable
            setattr(self, mask_name(name), mask)
            keep_masked(variable, mask)
        self.saved_masks = SavedMasks(self.kernels)
        self.__dict__.pop("quantize", None)  # Keras put that of the plain class there

    def remove_masks(self) -> None:
        """Take the masks off. Pruned weights are zeros, which nothing keeps any more."""
        if low_rank.adapters(self):
            low_rank.merge(self)
        zero_pruned(self.kernels)
        for name, variable in self._kernel_variables().items():
            variable.regularizer, variable.constraint = user_terms(variable)
            delattr(self, mask_name(name))  # Keras forgets the variable
        self.__dict__.pop("saved_masks", None)

    @property
    def kernels(self) -> list[Kernel]:
        """A Kernel for each prunable weight of the layer."""
        variables = self._kernel_variables().items()
        return [Kernel(one, getattr(self, mask_name(name)), self) for name, one in variables]

    def _kernel_variables(self) -> dict[str, keras.Variable]:
        """Return {attribute: variable} of the kernels that are there, but those left dense."""
        found = {name: keras_private.stored_variable(self, name) for name in self.kernel_names}
        return {
            name: variable
            for name, variable in found.items()
            if variable is not None and name not in self.left_dense
        }

    def save_own_variables(self, store: Any) -> None:
        """Save what the plain layer would save, with pruned weights as zeros.

        So plain and masked layers read the files of each other; `SavedMasks` saves the masks beside
        them. What is stored in the place of pruned weights may be other than zero here, where Keras
        wrote kernels without constraints; the layer itself stays as it is.
        """
        if not self.built:
            return super().save_own_variables(store)
        arrays: dict[str, Any] = {}
        super().save_own_variables(arrays)
        if not self.saves_kernels_alone:  # Keras numbers the weights of the layer
            own = [array for array in arrays.values() if not isinstance(array, Mask)]
            arrays = {str(index): array for index, array in enumerate(own)}
        masks = {id(kernel.variable): kernel.mask for kernel in self.kernels}
        for name, array in arrays.items():
            mask = masks.get(id(array))
            if mask is not None:
                weights = array.numpy()
                array = np.where(mask.numpy(), weights, weights.dtype.type(0))
            store[name] = array

    def load_own_variables(self, store: Any) -> None:
        """Load what a plain or a masked layer saved; masks that are not in the file keep all.

        In files of earlier versions the masks lie among the weights.
        """
        if not self.built:
            return super().load_own_variables(store)
        arrays = keras_private.saved_arrays(store, self)
        if not arrays:
            raise ValueError(
                f"{self.name}: the file holds no weights in its place. If it is of a plain model, "
                "load it into that, before lottery_tf.masked."
            )
        kernels = self.kernels
        # Locked masks stay. SavedMasks, which Keras loads next, tells the lock what the file holds.
        own_masks = [kernel.mask for kernel in kernels]
        masks = {m.name: m.numpy() if m.lock else np.ones(m.shape, bool) for m in own_masks}
        if self.saves_kernels_alone:
            arrays = masks | arrays
        elif len(arrays) < len(self.weights):
            own = [arrays[str(index)] for index in range(len(arrays))]
            places = {id(weight): index for index, weight in enumerate(self.weights)}
            for kernel in kernels:
                own.insert(places[id(kernel.mask)], masks[kernel.mask.name])
            arrays = {str(index): array for index, array in enumerate(own)}
        with keras_private.with_attribute([self], "_gives_variables", True):
            super().load_own_variables(arrays)
        if self.saves_kernels_alone:
            for kernel in kernels:
                kernel.mask.assign(arrays[kernel.mask.name])
        zero_pruned(kernels)

    def quantize(self, *_: Any, **__: Any) -> None:
        """Raise InputError: quantized kernels have no masks, and Keras would only warn."""
        raise InputError(
            f"quantize: the layer {self.name} has masks, which quantized kernels do not know. "
            "Quantize the plain copy: lottery_tf.unmasked(model).quantize(...). It keeps the zeros."
        )


def mask_name(kernel_name: str) -> str:
    """Return the name of the mask of a kernel: "depthwise_mask" for "depthwise_kernel"."""
    if "kernel" not in kernel_name:
        return f"{kernel_name}_mask"
    return kernel_name.replace("kernel", "mask")


def _masked_property(base: Any, name: str) -> property:
    """Return the property that gives a kernel under its mask, where `base` keeps the kernel."""
    inherited: Any = getattr(base, name, None)
    inherited = inherited if isinstance(inherited, property) else None

    def get(self: Any) -> Any:
        if not inherited and name not in self.__dict__:
            raise AttributeError(f"{self.name} has no {name} before it is built.")
        kernel = inherited.fget(self) if inherited else self.__dict__[name]
        if self._gives_variables and not inherited:
            return kernel
        mask = self.__dict__.get(mask_name(name))
        return kernel if mask is None else select(mask, kernel)  # there is none while it is built

    def put(self: Any, variable: Any) -> None:
        self.__dict__[name] = variable

    return property(get, None if inherited else put, doc="The kernel under its mask.")


def _masked_class(
    base: Any,
    kernel_names: tuple[str, ...] = ("kernel",),
    package: str = "lottery_tf",
    **members: Any,
) -> Any:
    """Return a masked subclass of a layer class that keeps its kernels under these names."""
    own_saving = base.save_own_variables is not keras.layers.Layer.save_own_variables
    members |= {name: _masked_property(base, name) for name in kernel_names}
    members |= {"kernel_names": kernel_names, "saves_kernels_alone": own_saving}
    return _subclass(Masked, base, members, package=package)


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
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel")
MaskedSeparableConv1D = _masked_class(keras.layers.SeparableConv1D, _SEPARABLE)
MaskedSeparableConv2D = _masked_class(keras.layers.SeparableConv2D, _SEPARABLE)

# The cells of recurrent layers, which compute with what these properties give, on cuDNN too.
_RECURRENT = ("kernel", "recurrent_kernel")
MaskedSimpleRNNCell = _masked_class(keras.layers.SimpleRNNCell, _RECURRENT)
MaskedGRUCell = _masked_class(keras.layers.GRUCell, _RECURRENT)
MaskedLSTMCell = _masked_class(keras.layers.LSTMCell, _RECURRENT)
MaskedConvLSTMCell = _masked_class(keras_private.ConvLSTMCell, _RECURRENT)


def _build_embedding(self: Any, input_shape: Any = None) -> None:
    if not self.built:  # it needs no shape, so a layer that holds it may have built it
        Masked.build(self, input_shape)


def _look_up(self: Any, inputs: Any) -> Any:
    """Return the rows of a table under its mask, without a masked copy of the whole table."""
    if self.lora_enabled:  # the rows are sums
        return self.plain.call(self, inputs)
    if "int" not in keras.backend.standardize_dtype(inputs.dtype):
        inputs = keras.ops.cast(inputs, "int32")
    rows, alive = (
        keras.ops.take(table, inputs, axis=0) for table in (self._embeddings, self.embeddings_mask)
    )
    return keras.ops.cast(select(alive, rows), self.compute_dtype)


def _enable_lora(self: Any, *args: Any, **options: Any) -> None:
    self.plain.enable_lora(self, *args, **options)
    self._embeddings.trainable = False  # Keras asks it of what `embeddings` gives


_TABLE: dict[str, Any] = {"build": _build_embedding, "enable_lora": _enable_lora}
MaskedEmbedding = _masked_class(keras.layers.Embedding, ("embeddings",), call=_look_up, **_TABLE)
# With tied weights it computes its outputs with the masked table, too.
MaskedReversibleEmbedding = _masked_class(
    keras.layers.ReversibleEmbedding, ("embeddings", "reverse_embeddings"), **_TABLE
)

# {layer class: its masked subclass}. Exactly these classes: a subclass of the user's own may
# compute otherwise.
MASKED = {layer.plain: layer for layer in Masked.__subclasses__()}


# {layer of keras_hub that multiplies by all experts at once: its kernels, (experts, in, out)}
_GATE, _OUTPUT = "_expert_feedforward_gate_dense", "_expert_feedforward_output_dense"
EXPERTS = {
    "GptOssExperts": ("gate_up_proj", "down_proj"),
    "MixtralMoeExperts": (_GATE, "_expert_feedforward_intermediate_dense", _OUTPUT),
    "Qwen3MoeExperts": (_GATE, _OUTPUT),
    "Qwen3_5MoeExperts": (_GATE, _OUTPUT),
    "QwenMoeExperts": (_GATE, _OUTPUT),
}


def masked_class(layer: Any) -> Any:
    """Return the masked class of a plain layer; None where masks do not know the layer."""
    if is_quantized(layer):
        return None
    kind = type(layer)
    is_of_hub = kind not in MASKED and kind.__module__.startswith("keras_hub.")
    if is_of_hub and kind.__name__ in EXPERTS:
        masked_layer(*EXPERTS[kind.__name__])(kind)
    return MASKED.get(kind)


def is_quantized(layer: Any) -> bool:
    """Return whether a layer computes with a quantized kernel."""
    return getattr(layer, "quantization_mode", None) is not None


OF_MASKED = ("kernels", "kernel_names", "add_masks", "saved_masks", "plain")


def masked_layer(*kernels: str) -> Callable[[type], type]:
    """Class decorator: let `masked` mask a layer of your own. The class stays as it is.

    The layer keeps each of these kernels in an attribute, as `self.kernel = self.add_weight(…)`,
    by the end of its `build`, and computes with what the attribute gives. Its masked subclass,
    `MASKED[cls]`, gives the kernel under its mask. `lottery_tf.testing.check_masked_layer` checks
    it.

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


class Composite(keras_private.AfterBuild, MaskedSubclass):
    """Mixin of the Keras layers that make layers of their own: masks those after building."""

    def after_build(self) -> None:
        mask_inside(self, self.left_dense)


def _composite(base: Any, name: str = "") -> Any:
    return _subclass(Composite, base, {}, name=name)


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

COMPOSITE = {layer.plain: layer for layer in Composite.__subclasses__()}


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedInside(keras_private.AfterBuild, MaskedSubclass):
    """Mixin of a layer or model that makes masked layers which its configuration does not hold.

    `masked_inside(base)` makes the subclass of each class. Its configuration is that of the plain
    layer and the name of the base, so that loading, which knows this mixin alone, finds both:
    the base is built as it is without masks, and then the layers that it holds are masked.
    """

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
        """Make the masked layer of a configuration, whichever the subclass that is asked."""
        config = dict(config)
        name = config.pop("masks_inside")
        base = getattr(cls, "plain", None)
        if not base or name != keras_private.class_name(base):
            base = keras_private.find_class(name, custom_objects)
        layer = super(MaskedInside, masked_inside(base)).from_config(config)
        if layer.built:
            mask_inside(layer, layer.left_dense)
        return layer


@functools.cache
def masked_inside(base: Any) -> Any:
    """Return the subclass of a layer class that masks the layers it holds."""

    @functools.wraps(base.get_config)  # Keras asks whether it is its own
    def get_config(self: Any) -> dict:
        return MaskedInside.get_config(self)

    members = {
        "__doc__": f"{base.__name__} whose inner layers are masked.",
        "__module__": "lottery_tf.masking",
        "plain": base,
        "get_config": get_config,
    }
    if hasattr(base, "save_to_preset"):  # of keras_hub
        members["save_to_preset"] = _refuse_preset
    if issubclass(base, keras.layers.SpectralNormalization):
        members["call"] = _call_normalizing(base)
    # Of the same name, after which Keras names places in files of weights.
    subclass = type(base.__name__, (MaskedInside, base), members)
    # All of them bear the name under which the mixin is found.
    register = keras.saving.register_keras_serializable("lottery_tf", "MaskedInside")
    register(subclass)
    register(MaskedInside)
    return subclass


def _call_normalizing(base: Any) -> Any:
    """Return the `call` of a SpectralNormalization that divides by the norm of the masked kernel.

    Keras's takes the norm of what is stored, and assigns the quotient to it. On JAX gradients pass
    through both, and the norm's would revive pruned weights.
    """

    @functools.wraps(base.call)
    def call(self: Any, inputs: Any, training: bool = False, **options: Any) -> Any:
        held = keras_private.flatten_layers(self) if training else []
        for kernel in (one for layer in held if isinstance(layer, Masked) for one in layer.kernels):
            if kernel.variable is self.kernel:
                self.kernel.assign(select(kernel.mask, self.kernel))
        return base.call(self, inputs, training=training, **options)

    return call


def _refuse_preset(self: Any, *_: Any, **__: Any) -> None:
    """Raise InputError: `from_preset` finds a class by its name, and cannot read this one."""
    raise InputError(
        f"save_to_preset: {self.name} has masks, and from_preset could not read it. Save its plain "
        "copy, in which pruned weights are zeros: lottery_tf.unmasked(model).save_to_preset(path). "
        'To keep the masks, use model.save("model.keras") or model.save_weights(path).'
    )


def changed_config(config: Any, change: Callable[[dict], dict]) -> Any:
    """Return a configuration each of whose dictionaries is changed, the inner ones first."""
    if isinstance(config, list | tuple):
        return type(config)(changed_config(one, change) for one in config)
    if not isinstance(config, dict):
        return config
    return change({key: changed_config(value, change) for key, value in config.items()})


def plain_config(config: Any) -> Any:
    """Return a configuration that names the plain classes in place of their masked subclasses."""

    def change(config: dict) -> dict:
        if "class_name" not in config or not isinstance(config.get("config"), dict):
            return config
        inner = {key: value for key, value in config["config"].items() if key != LEFT_DENSE}
        if "masks_inside" in inner:
            return config | inner.pop("masks_inside") | {"config": inner}
        registered = keras.saving.get_registered_object(config.get("registered_name"))
        plain = getattr(registered, "plain", None)
        return config | keras_private.class_name(plain) | {"config": inner} if plain else config

    return changed_config(config, change)


def mask_inside(layer: keras.Layer, left_dense: Collection[str] = ()) -> bool:
    """Mask, in place, the layers that a layer or model holds; False if some are not built yet."""
    where = places(layer)
    held = keras_private.flatten_layers(layer, include_self=False)
    for inner in held:
        masked = masked_class(inner)
        if masked and inner.built:
            dense = _below(where[id(inner)], left_dense)
            if not set(masked.kernel_names) <= set(dense):
                _change_class(inner, masked)
                inner.left_dense = dense
                keras_private.add_weights(inner, inner.add_masks)
    for inner in [*held, layer]:
        kind: Any = type(inner)
        if kind in COMPOSITE and (not inner.built or _holds_masks(inner)):
            _change_class(inner, COMPOSITE[kind])
        elif _forgets_masks(inner):
            _change_class(inner, masked_inside(kind))
        if isinstance(inner, Composite | MaskedInside):
            inner.left_dense = (
                tuple(left_dense) if inner is layer else _below(where[id(inner)], left_dense)
            )
    return all(inner.built for inner in held if masked_class(inner))


def unmask_inside(layer: keras.Layer) -> None:
    """Turn a layer or model, and all layers in it, back into the plain classes, in place."""
    for inner in keras_private.flatten_layers(layer):
        if isinstance(inner, Masked):
            inner.remove_masks()
        if isinstance(inner, MaskedSubclass):
            inner.__dict__.pop("left_dense", None)
            inner.__dict__.pop("saving_problem", None)
            _change_class(inner, inner.plain)


def _change_class(layer: Any, kind: type) -> None:
    """Turn a layer, in place, into an instance of its masked subclass, or of the plain class.

    This is the only place that changes the class of an object. A masked subclass has the
    constructor and the attributes of its plain class: it only computes with masked kernels, and
    saves and rebuilds itself with masks. So the layer keeps its variables, its name, its calls in
    functional models, and the references that users hold to it, which a new layer in its place
    would not.
    """
    layer.__class__ = kind


def places(layer: keras.Layer, prefix: str = "") -> dict[int, list[str]]:
    """Return {id(inner layer): its places}: "2.0" is the first layer of the third one.

    Layers that are made later come behind, so places stay.
    """
    found: dict[int, list[str]] = {}
    for number, inner in enumerate(keras_private.inner_layers(layer)):
        place = f"{prefix}{number}"
        found.setdefault(id(inner), []).append(place)
        for key, below in places(inner, f"{place}.").items():
            found.setdefault(key, []).extend(below)
    return found


def _below(places: Collection[str], left_dense: Collection[str]) -> tuple[str, ...]:
    """Return the kernels left dense below some places, as they are named there."""
    below = {
        one.removeprefix(f"{place}{end}")
        for one in left_dense
        for place in places
        for end in "./"  # of a layer in a layer, of a kernel in it
        if one.startswith(f"{place}{end}")
    }
    return tuple(sorted(below))


def _holds_masks(layer: keras.Layer) -> bool:
    held = keras_private.flatten_layers(layer, include_self=False)
    return any(isinstance(inner, Masked) for inner in held)


def _forgets_masks(layer: keras.Layer) -> bool:
    """Return whether a layer holds masked layers that its configuration does not name."""
    is_masked = isinstance(layer, MaskedInside | Composite)
    return not is_masked and not keras_private.names_its_layers(layer) and _holds_masks(layer)
