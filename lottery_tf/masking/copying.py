"""Copies Keras models: rebuilds a model, copies its state, and compares the outputs of both."""

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError, is_ours
from lottery_tf.masking import keras_private, low_rank
from lottery_tf.masking.layers import LEFT_DENSE, Masked, changed_config, plain_config
from lottery_tf.masking.mask_variable import Mask, keep_masked, user_terms
from lottery_tf.pruning import Array

# Attributes that training leaves in a model, and a copy does without.
OF_TRAINING = {
    "compile",  # set by `rounds` meanwhile
    "history",
    "optimizer",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
}


def copy(model: keras.Model, weights: list[Array], *, plain: bool = False) -> keras.Model:
    """Return a new model of the same layers, with the state of a model and these weights.

    It is not compiled. If it is to be plain, masked layers become the Keras layers that they mask,
    without LoRA: the weights have it in the kernels.
    """

    def without_lora(config: dict[str, Any]) -> dict[str, Any]:
        return changed_config(config, low_rank.without(model)) if plain else config

    try:
        new = rebuild(model, without_lora, plain=plain)
        _check_rebuilt(model, new)
        copy_state(model, new)
        new.set_weights(weights)
        new.built = True  # Keras builds a subclassed model by a call alone; its layers are built
        _copy_training(model, new)
    except Exception as error:  # whatever Keras and the user's classes raise
        if is_ours(error):
            raise
        way, does = ("unmask", "makes") if plain else ("mask", "masks")
        reason = _reason(error)
        if not isinstance(error, InputError):  # the new layers have other weights
            reason = (
                "it holds a layer that Keras rebuilds with other weights. Give the class "
                f"get_config and from_config that make the same layer. {reason}"
            )
        raise InputError(
            f"{model.name} cannot be copied: {reason} lottery_tf.{way}(model) {does} the model "
            f"itself{' plain' * plain}, without a copy."
        ) from error
    return new


def rebuild(
    model: keras.Model,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config,
    *,
    plain: bool = False,
    same_class: bool = True,
) -> keras.Model:
    """Return a new model of the same layers, whose weights are drawn anew. It is not compiled.

    It has the variables of the model, in their order, if its classes rebuild all that they hold:
    the caller compares them.

    Args:
        model: a built model, or a layer.
        change: takes the configuration of a layer, and returns the one to make the new layer from.
        plain: as of `copy`.
        same_class: whether a subclass of a functional or sequential model with a constructor of
            its own is rebuilt by its own `from_config`. If not, the new model is a plain one that
            computes the same.
    """

    def new_layer(layer: keras.Layer) -> keras.Layer:
        config, kind = layer.get_config(), type(layer)
        if plain:
            config, kind = plain_config(config), getattr(layer, "plain", kind)
            for ours in ("masks_inside", LEFT_DENSE):
                config.pop(ours, None)
        return kind.from_config(change(config))

    if same_class:
        is_functional = isinstance(model, keras_private.Functional)
        as_clone = type(model) is keras.Sequential or (
            is_functional and keras_private.names_its_layers(model)
        )
    else:
        as_clone = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    layers = keras_private.flatten_layers(model)
    refusing = [layer for layer in layers if getattr(layer, "saving_problem", "")]
    try:
        with (  # a copy does not come from a file, and needs no loss, metric or schedule
            keras_private.with_attribute([model], "compiled", False),
            keras_private.with_attribute(refusing, "saving_problem", ""),
            keras_private.SafeModeScope(False),  # Lambda layers are the caller's own
        ):
            if as_clone:
                # Rebuilding nested models as a whole gives variables the paths that finished runs
                # have, but layers of their own to models that share some.
                return keras.models.clone_model(
                    model, clone_function=new_layer, recursive=keras_private.shares_layers(model)
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
        raise InputError(
            f"{model.name} is, or holds, a subclassed model or layer that Keras cannot rebuild. "
            f"Give the class get_config and from_config. {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {keras_private.cause(error)}"


def _computing(model: keras.Layer) -> list[keras.Layer]:
    """Return the layers of a model but inputs, which copies do not share with nested models."""
    layers = keras_private.flatten_layers(model)
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def _check_rebuilt(model: keras.Model, new: keras.Model) -> None:
    """Raise InputError if a new model lacks attributes or layers that a user's class holds."""
    ignored = vars(keras.Model()).keys() | OF_TRAINING
    copied = vars(new)
    for name, value in vars(model).items():
        if name.startswith("_") or name in ignored:
            continue
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if name not in copied or (is_plain and copied[name] != value):
            raise InputError(
                f"its attribute {name} is {value!r}, that of its copy "
                f"{copied.get(name, 'not there')!r}. Let __init__ set it, and get_config and "
                f"from_config of {type(model).__name__} carry it."
            )
    old, fresh = _computing(model), _computing(new)
    if len(old) != len(fresh):
        names = {layer.name for layer in fresh}
        missing = [layer.name for layer in old if layer.name not in names]
        raise InputError(
            f"it has {len(old)} layers, its copy {len(fresh)}. Missing: "
            f"{', '.join(missing) or 'none of these names'}."
        )


def copy_state(model: keras.Layer, new: keras.Layer) -> None:
    """Give the layers of a copy the state that they save otherwise than as weights."""
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


def _copy_training(model: keras.Layer, new: keras.Layer) -> None:
    """Give a copy the settings that act in training alone, and may be set after a layer is made.

    These are the `trainable` flags of all layers, nested models and variables, the regularizers
    and constraints of variables, and the state of random numbers with a seed of their own. The
    dtype of a layer is decided when it is made: another one raises InputError.
    """

    def copy_flags(old: keras.Layer, new: keras.Layer) -> None:
        new.trainable = old.trainable  # the outermost first: it sets those inside, too
        for pair in zip(*map(keras_private.inner_layers, (old, new)), strict=True):
            copy_flags(*pair)

    copy_flags(model, new)
    for old_layer, new_layer in zip(*map(_computing, (model, new)), strict=True):
        if old_layer.dtype_policy != new_layer.dtype_policy:
            raise InputError(
                f"its layer {old_layer.name} has the dtype policy {old_layer.dtype_policy.name}, "
                f"that of its copy {new_layer.dtype_policy.name}. Let get_config begin with "
                "super().get_config(), which holds the dtype."
            )
        new_layer.autocast = old_layer.autocast
        gone = {id(variable) for variable in low_rank.adapters(old_layer)}
        merged = gone and not low_rank.adapters(new_layer)
        variables = (
            [
                variable
                for variable in keras_private.layer_variables(layer)
                if not isinstance(variable, Mask) and not (merged and id(variable) in gone)
            ]
            for layer in (old_layer, new_layer)
        )
        kernels = new_layer.kernels if isinstance(new_layer, Masked) else []
        masks = {id(kernel.variable): kernel.mask for kernel in kernels}
        for old_variable, variable in zip(*variables, strict=True):
            if not merged:  # LoRA froze the kernel
                variable.trainable = old_variable.trainable
            variable.regularizer, variable.constraint = user_terms(old_variable)
            if id(variable) in masks:
                keep_masked(variable, masks[id(variable)])
        if getattr(old_layer, "seed", None) is not None:  # without one, copies draw anew
            generators = map(keras_private.seed_generators, (old_layer, new_layer))
            for old_generator, generator in zip(*generators, strict=True):
                generator.state.assign(old_generator.state)


EXAMPLES = 2
SIZES = (8, 64, 224)  # of dimensions that the signature leaves open
INTEGERS = (1000, 100, 10, 2)  # bounds; embeddings refuse numbers beyond their table
LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)


def check_same(model: keras.Model, copy: keras.Model, of: str) -> None:
    """Raise InputError if a copy computes otherwise than the model, at inference or in training.

    Outputs are compared on one random input, and where the copy is to be trained the model's own
    losses (of regularizers and `add_loss`) too. Both models start from the same random state. A
    warning says where the model itself cannot be called so. `of` is the function that made the
    copy, for messages.
    """
    for inputs in _inputs(model):
        same = _is_repeatable(model, inputs, training=False)
        if same is None:  # an input of another size or range may fit
            continue
        if not same:
            break
        _compare(model, copy, inputs, of, training=False)
        if len(_seeds(model)) == len(_seeds(copy)) and _is_repeatable(model, inputs, training=True):
            _compare(model, copy, inputs, of, training=True)
        return
    warnings.warn(
        f"{of}: the copy of {model.name} was not compared with it: no random input gave the same "
        "output twice. Compare the outputs of both on your data.",
        stacklevel=3,
    )


def _compare(
    model: keras.Model, copy: keras.Model, inputs: Any, of: str, *, training: bool
) -> None:
    def fault(problem: str) -> InputError:
        return InputError(
            f"{of}: the copy of {model.name} computes otherwise than the model"
            f"{' in training' * training}: on a random input it {problem}. A layer keeps what its "
            "weights and its get_config do not hold: let them hold it, or change the model itself "
            f"by lottery_tf.{of.removesuffix('ed')}(model)."
        )

    losses = training and of == "masked"  # pruned weights that were revived are zero in others
    expected = _outputs(model, model, inputs, training=training, losses=losses)
    try:
        outputs = _outputs(copy, model, inputs, training=training, losses=losses)
    except Exception as error:  # as where it lacks a vocabulary
        raise fault(f"fails: {error}") from error
    difference = _difference(expected, outputs)
    largest = max((np.abs(array).max(initial=0) for array in expected), default=0)
    allowed = 1e-3 * max(float(largest), 1e-3)
    if difference > allowed and training:
        # BatchNorm over two examples magnifies rounding: so would it a change in the last digits.
        def near(array: Any) -> Any:
            is_float = "float" in keras.backend.standardize_dtype(array.dtype)
            return array * keras.ops.cast(1 + 1e-5, array.dtype) if is_float else array

        nearby = keras.tree.map_structure(near, inputs)
        moved = _outputs(model, model, nearby, training=training, losses=losses)
        allowed = max(allowed, _difference(expected, moved))
    if difference > allowed:
        raise fault(f"gives outputs{' and losses' * losses} that differ by {difference:.3g}")


def _is_repeatable(model: keras.Model, inputs: Any, *, training: bool) -> bool | None:
    """Return whether two calls of a model give the same outputs; None if it cannot be called so."""
    try:
        first, again = (_outputs(model, model, inputs, training=training) for _ in range(2))
    except Exception:  # whatever Keras and the layers raise for an input that does not fit
        return None
    return _difference(first, again) == 0


def _difference(some: list[Array], other: list[Array]) -> float:
    """Return the largest difference of numbers; infinite where one of both is not a number."""
    pairs = zip(some, other, strict=True)
    unequal = [np.abs(a - b)[~((a == b) | (np.isnan(a) & np.isnan(b)))] for a, b in pairs]
    return max((float(np.nan_to_num(x, nan=np.inf).max(initial=0)) for x in unequal), default=0.0)


def _outputs(
    model: keras.Model, seeded: keras.Model, inputs: Any, *, training: bool, losses: bool = False
) -> list[Array]:
    """Return the outputs of a call, and the sum of its losses, float64; no state changes.

    Random numbers are drawn as another model of the same layers, `seeded`, would draw them.
    """
    seeds = dict(zip(map(id, _seeds(model)), _seeds(seeded), strict=False))
    mode = {"training": training} if keras_private.takes_training(model) else {}
    outputs, _, *added = model.stateless_call(
        [variable.value for variable in model.trainable_variables],
        [seeds.get(id(variable), variable).value for variable in model.non_trainable_variables],
        inputs,
        return_losses=losses,
        **mode,
    )
    total = [sum(map(keras.ops.sum, added[0]))] if losses and added[0] else []
    numbers = map(keras.ops.convert_to_numpy, keras.tree.flatten(outputs) + total)
    return [np.asarray(array).astype(np.float64) for array in numbers]


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the random numbers in a model, in the order of its layers."""
    layers = keras_private.flatten_layers(model)
    return [one.state for layer in layers for one in keras_private.seed_generators(layer)]


def _inputs(model: keras.Model) -> Iterator[Any]:
    """Yield random inputs of the structure that the model takes, one for each size and bound."""
    signature = keras_private.signature(model)
    if signature is None:
        return
    generator = np.random.default_rng(0)
    words, numbers = ["unknown"], []  # what the lookup layers know, and a word that they do not
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, LOOKUPS):
            vocabulary = layer.get_vocabulary()[:100]
            words += [word for word in vocabulary if isinstance(word, str)]
            numbers += [int(word) for word in vocabulary if not isinstance(word, str)]

    def draw(tensor: keras.KerasTensor, size: int, bound: int) -> Any:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        examples = tensor.shape[0] or EXAMPLES  # a stateful layer has a batch of its own size
        shape = [examples, *(size if length is None else length for length in tensor.shape[1:])]
        array: Any
        if dtype == "string":
            array = generator.choice(words, shape).tolist()
        elif "int" in dtype and numbers and bound == INTEGERS[0]:
            array = generator.choice(numbers, shape)
        elif "int" in dtype or dtype == "bool":
            array = generator.integers(0, bound, shape)
        else:
            array = generator.standard_normal(shape)
        return keras.ops.convert_to_tensor(array, dtype=dtype)

    for size, bound in itertools.product(SIZES, INTEGERS):
        yield keras.tree.map_structure(lambda one: draw(one, size, bound), signature)  # noqa: B023
