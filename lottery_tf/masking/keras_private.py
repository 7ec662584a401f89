"""Every use of Keras's private names, but those of `keras_generators`: check a new Keras here.

Tried with Keras 3.15.
"""

import contextlib
import copy
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common.stateless_scope import in_stateless_scope as in_stateless_scope
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell as ConvLSTMCell
from keras.src.models.functional import Functional as Functional
from keras.src.models.functional import functional_like_constructor
from keras.src.saving import serialization_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.saving.serialization_lib import SafeModeScope as SafeModeScope
from keras.src.trainers import data_adapters
from keras.src.utils.tracking import TrackedDict, TrackedList

from lottery_tf.errors import InputError


class Saveable(KerasSaveable):
    """A part of a layer that Keras saves and loads by its save_own_variables."""

    def _obj_type(self) -> str:
        return "Layer"


class AfterBuild:
    """Mixin of a layer: Keras calls its after_build() when it has built the layer."""

    def _post_build(self) -> None:
        super()._post_build()  # type: ignore[misc]
        self.after_build()

    def after_build(self) -> None:
        raise NotImplementedError


def class_name(layer_class: type) -> dict[str, Any]:
    """Return {"module", "class_name", "registered_name"}, by which Keras finds a class again."""
    config = serialization_lib.serialize_with_public_class(layer_class)
    return {name: value for name, value in config.items() if name != "config"}


def find_class(name: dict[str, Any], custom_objects: dict | None = None) -> type:
    """Return the class of such a name; raise TypeError if Keras does not know it."""
    return serialization_lib._retrieve_class_or_fn(
        name["class_name"],
        name["registered_name"],
        name["module"],
        obj_type="class",
        full_config=name,
        custom_objects=custom_objects or {},
    )


def names_its_layers(layer: keras.Layer) -> bool:
    """Return whether the configuration of a layer holds those of all layers in it.

    It does for functional and sequential models, and for the wrappers of Keras; but
    SpectralNormalization takes the variable of a layer that it builds.
    """
    kind = type(layer)
    if isinstance(layer, Functional):
        return kind.get_config is Functional.get_config and functional_like_constructor(kind)
    if isinstance(layer, keras.Sequential):
        return kind.get_config is keras.Sequential.get_config
    of_keras = kind.__module__.split(".")[0] == "keras"
    return of_keras and kind is not keras.layers.SpectralNormalization


def shares_layers(model: keras.Layer) -> bool:
    """Return whether two nested models of a model hold the same layer."""
    models = [m for m in flatten_layers(model) if isinstance(m, Functional | keras.Sequential)]
    layers = [layer for m in models for layer in m.layers]
    # A classifier on a backbone's own inputs shares those alone, which a copy need not keep.
    held = [id(layer) for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
    return len(held) > len(set(held))


def as_loaded(model: keras.Model) -> keras.Model:
    """Return a new model as Keras rebuilds it from a file, where the user's classes are known."""
    kinds = [getattr(layer, "plain", type(layer)) for layer in flatten_layers(model)]
    with serialization_lib.ObjectSharingScope():
        config = serialization_lib.serialize_keras_object(model)
    with serialization_lib.ObjectSharingScope():
        return serialization_lib.deserialize_keras_object(
            config, custom_objects={kind.__name__: kind for kind in kinds}, safe_mode=False
        )


def cause(error: BaseException) -> str:
    """Return the end of an error of Keras, without the configurations that it went through."""
    paragraphs = [part.strip() for part in str(error).split("Exception encountered:")]
    return paragraphs[-1].split("\n\n")[0].replace("\n", " ")


def layer_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Return the variables that a layer made itself, without those of layers in it."""
    return layer._trainable_variables + layer._non_trainable_variables


def seed_generators(layer: keras.Layer) -> list[keras.random.SeedGenerator]:
    """Return the generators of random numbers that a layer made itself."""
    return list(layer._seed_generators)


def takes_training(layer: keras.Layer) -> bool:
    """Return whether the `call` of a layer or model has a `training` argument."""
    return layer._call_has_training_arg


def signature(model: keras.Model) -> Any:
    """Return the structure of KerasTensors that a model takes, or None if that is not known."""
    functional = getattr(model, "_functional", model)  # a sequential model holds a functional one
    if isinstance(functional, Functional):
        return functional.input
    shapes = model._build_shapes_dict
    if not shapes or len(shapes) != 1:
        return None
    dtype = model.compute_dtype
    (shape,) = shapes.values()
    return keras.tree.map_shape_structure(lambda s: keras.KerasTensor(s, dtype), shape)


def flatten_layers(model: keras.Layer, *, include_self: bool = True) -> list[keras.Layer]:
    """Return the layers of a model, those inside nested models and wrappers too.

    Each layer stands before those that it holds, and these in the order in which it holds them: in
    a functional model, that of their execution. A layer that is held twice stands at the first.
    """
    found: dict[int, keras.Layer] = {}

    def visit(layer: keras.Layer) -> None:
        if id(layer) not in found:
            found[id(layer)] = layer
            for inner in layer._layers:
                visit(inner)

    visit(model)
    return list(found.values())[not include_self :]


def layers_of_runs(model: keras.Layer) -> list[keras.Layer]:
    """Return the layers of `flatten_layers` as finished runs have their kernels.

    Keras walks the top layers forward, and those inside a nested layer backward. Ties in pruning,
    random numbers and files follow the order of the kernels, so it stays as it was.
    """
    return list(model._flatten_layers())


def add_weights(layer: keras.Layer, add: Callable[[], None]) -> None:
    """Call add() while a built layer may get further weights, as Keras does for LoRA."""
    locked = layer._tracker.locked
    layer._tracker.unlock()
    add()
    if locked:
        layer._tracker.lock()


def add_variable(layer: keras.Layer, kind: type[keras.Variable], **options: Any) -> Any:
    """Make a variable of a class of ours, and add it to a layer as `add_weight` would."""
    initializer = keras.initializers.get(options.pop("initializer"))
    with keras.name_scope(layer.name, caller=layer):
        variable = kind(initializer=initializer, **options)
    layer._track_variable(variable)
    return variable


def stored_variable(layer: keras.Layer, name: str) -> keras.Variable:
    """Return the variable of a kernel: Dense and Conv keep it as _kernel, behind a property."""
    return layer.__dict__.get(f"_{name}", layer.__dict__.get(name))


def saved_arrays(store: Any, layer: keras.Layer) -> dict[str, Any]:
    """Return what a store of a file holds for a masked layer, or for the plain one in its place.

    Keras names the place after the class and the number of the layer: layers/masked_dense_1. A
    layer of another name in that place, which Keras did not make up, raises ValueError.
    """
    path = getattr(store, "_h5_entry_path", "")
    plain = re.sub(r"(^|/)masked_", r"\1", path)
    plain = plain.replace("group_query", "grouped_query")  # as the class of Keras is called
    if not store.keys() and plain != path:
        store = store.get(plain)
        # A file in shards names a layer in the first shard that it reached, or in none.
        name = store._h5_entry_group.attrs.get("name", layer.name) if store.keys() else layer.name
        made_up = re.compile(rf"(masked_)?{re.sub('_[0-9]+$', '', plain.split('/')[-1])}(_\d+)?")
        if name != layer.name and not all(map(made_up.fullmatch, (name, layer.name))):
            raise ValueError(f"In the place of {layer.name} the file has the layer {name}.")
    return {name: store[name] for name in store.keys()}  # noqa: SIM118 (h5py's groups)


def first_path(variable: keras.Variable) -> str:
    """Return the path that Keras gave a variable; the slots of optimizers are named after it."""
    return getattr(variable, "_first_path", variable.path)


def set_path(variable: keras.Variable, path: str) -> None:
    """Give a variable another path."""
    variable._first_path = first_path(variable)
    variable._path = path


def held_paths(model: keras.Layer, path: str = "") -> dict[int, str]:
    """Return {id(variable): names of the layers that hold it, the outermost first, and its own}."""
    found: dict[int, str] = {}
    for layer in getattr(model, "layers", model._layers):
        inner = f"{path}{layer.name}/"
        own = layer_variables(layer)
        found = {id(variable): inner + variable.name for variable in own} | found
        found = held_paths(layer, inner) | found
    return found


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers that a layer holds itself, without inputs."""
    return [one for one in layer._layers if not isinstance(one, keras.layers.InputLayer)]


def slot_index(optimizer: keras.Optimizer, variable: keras.Variable) -> int:
    """Return the place of a variable's slot in the lists that add_optimizer_variables gives."""
    return optimizer._get_variable_index(variable)


def built_with(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Return the variables of a model that a built optimizer was built with."""
    return list(optimizer._trainable_variables)


def own_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Return the variables of an optimizer without those of the optimizers inside it."""
    return list(optimizer._variables)


def built_anew(
    optimizer: keras.Optimizer, inner: Iterable[keras.Optimizer] = ()
) -> list[keras.Variable]:
    """Make once more what `build` of a built optimizer makes, from the weights as they are now.

    The optimizer itself stays as it is, and so do those inside it, which its `build` may build too.
    A twin is built: it shares the settings, so nothing needs to be serialized, and has variables of
    its own.
    """
    before = list(optimizer._variables)
    is_variable, _ = optimizer._tracker.config["variables"]
    twin, made = object.__new__(type(optimizer)), list(before)
    tracker = type(optimizer._tracker)({"variables": (is_variable, made)})
    tracker.stored_ids["variables"].update(map(id, before))
    stand_ins: dict[int, Any] = {}  # {id(inner optimizer): one like it that is never built}
    for one in inner:
        stand_ins[id(one)] = object.__new__(type(one))
        vars(stand_ins[id(one)]).update(vars(one), build=lambda variables: None)

    def of_twin(value: Any) -> Any:
        """Return a value as the twin holds it: collections are its own."""
        if isinstance(value, TrackedList | TrackedDict):
            own = type(value)(value)  # without a tracker nothing is tracked
            own.tracker = tracker
        elif isinstance(value, list | dict | set):
            own = copy.copy(value)
        else:
            return stand_ins.get(id(value), value)
        if isinstance(own, list):
            list.__setitem__(own, slice(None), list(map(of_twin, own)))
        elif isinstance(own, TrackedDict):
            for key, item in value.items():
                dict.__setitem__(own, key, of_twin(item))
        elif isinstance(own, dict):  # or what TensorFlow wraps around one
            own.update({key: of_twin(item) for key, item in value.items()})
        return own

    for name, value in vars(optimizer).items():
        if not name.startswith("_self_"):  # TensorFlow's, which it makes anew
            vars(twin)[name] = of_twin(value)
    vars(twin).update(_variables=made, _tracker=tracker, built=False)
    twin.build(built_with(optimizer))
    return made[len(before) :]


def nodes(network: keras.Model) -> list:
    """Return the calls of layers in a functional model, in the order of their execution."""
    if not isinstance(network, keras.Model) or not hasattr(network, "_nodes_by_depth"):
        raise InputError(
            f"--align=permutation knows functional models; {network.name} is a "
            f"{type(network).__name__}. Use --align=none."
        )
    depths = network._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def calls(layer: keras.Layer) -> int:
    """Return how often a layer is called in functional models."""
    return len(layer._inbound_nodes)


def functional(model: keras.Layer) -> keras.Model | None:
    """Return the graph that a model runs: itself, or that of a built Sequential; None without one.

    A subclass that computes otherwise in `call` has none.
    """
    if type(model) is keras.Sequential:
        return model._functional
    plain = getattr(type(model).call, "__qualname__", "") == "Functional.call"
    return model if plain and hasattr(model, "_nodes_by_depth") else None


def rename(tensor: keras.KerasTensor, name: str) -> None:
    """Name the operation that gives a tensor: those of keras.ops take no name."""
    tensor._keras_history.operation.name = name


def projections(attention: keras.Layer) -> dict[str, keras.Layer]:
    """Return {name: layer} of the dense layers in a MultiHeadAttention or GroupQueryAttention."""
    names = ("query", "key", "value", "gate", "output")
    layers = {name: getattr(attention, f"_{name}_dense", None) for name in names}
    return {name: layer for name, layer in layers.items() if layer is not None}


@contextlib.contextmanager
def with_attribute(holders: Iterable[Any], name: str, value: Any) -> Iterator[None]:
    """While it is open, an attribute of some models, layers or variables has another value."""
    before = [(holder, getattr(holder, name)) for holder in holders]
    for holder, _ in before:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, old in before:
            setattr(holder, name, old)


# {model: the ids of the masks that its functions were compiled with}
_FUNCTIONS_OF: weakref.WeakKeyDictionary[keras.Layer, frozenset[int]] = weakref.WeakKeyDictionary()


def forget_functions_without(model: keras.Model, masks: Iterable[Any]) -> None:
    """Let a model compile its functions anew if it may have compiled them without these masks.

    `mask` cannot know the models that hold the model it masks, which may be compiled already.
    """
    ids = frozenset(map(id, masks))
    if _FUNCTIONS_OF.get(model) != ids:
        forget_functions(flatten_layers(model))
        _FUNCTIONS_OF[model] = ids


def forget_functions(layers: list[keras.Layer]) -> None:
    """Let the models among some layers compile their training and prediction anew."""
    for model in layers:
        if isinstance(model, keras.Model):
            model.train_function = model.test_function = model.predict_function = None


def forward(model: keras.Model, inputs: Any, *, training: bool) -> Any:
    """Return the outputs of a model as the step of `fit` computes them; None without a `call`."""
    call = type(model).call
    if call is keras.Model.call:
        return None
    if call in (Functional.call, keras.Sequential.call):
        # A name scope around it would reorder its operations, and with them the rounding.
        return model.call(inputs, training=training)
    return model(inputs, training=training) if model._call_has_training_arg else model(inputs)


def compute_loss(
    model: keras.Model, inputs: Any, labels: Any, outputs: Any, weights: Any, training: bool
) -> Any:
    """Return the loss of a batch as the step of `fit` asks a model for it."""
    return model._compute_loss(
        x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=training
    )


def with_notes_of(tensor: Any, scaled: Any, temperature: Any) -> Any:
    """Give a scaled output of a model what Keras keeps with the output; return it.

    These are the mask of its time steps, and the logits of a softmax or sigmoid, from which Keras
    computes cross-entropies. The logits are divided by the temperature too.
    """
    if (mask := backend.get_keras_mask(tensor)) is not None:
        backend.set_keras_mask(scaled, mask)
    if (logits := getattr(tensor, "_keras_logits", None)) is not None:
        logits = keras.ops.cast(logits, scaled.dtype)
        scaled._keras_logits = logits / keras.ops.cast(temperature, scaled.dtype)
    return scaled


def numpy_batches(inputs: Any, labels: Any, weights: Any, *, size: int) -> Iterator[Any]:
    """Yield the batches of what `fit` takes, in order, as structures of NumPy arrays.

    What does not come in batches is cut into those of `size` examples. Keras raises ValueError for
    what `fit` does not take.
    """
    adapter = data_adapters.get_data_adapter(inputs, labels, weights, batch_size=size)
    return adapter.get_numpy_iterator()


def begin_at_epoch_0(model: keras.Model) -> None:
    """Let the next `fit` of a model begin at its first epoch.

    BackupAndRestore sets the epoch at which its `fit` resumes; Keras keeps it for all later ones.
    """
    model._initial_epoch = None
