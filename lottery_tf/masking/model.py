"""Put masks on Keras 3 models and take them off again, in place or in a copy."""

import warnings

import keras

from lottery_tf.errors import InputError, is_ours
from lottery_tf.masking import (
    choosing,
    copying,
    keras_generators,
    keras_private,
    low_rank,
    network,
    refusals,
)
from lottery_tf.masking.choosing import Choice
from lottery_tf.masking.layers import (
    MASKED,
    Composite,
    Masked,
    MaskedInside,
    mask_inside,
    places,
    unmask_inside,
)


def mask(
    model: keras.Model, *, include: Choice | None = None, exclude: Choice | None = None
) -> keras.Model:
    """Put masks on the kernels of a model, in place, and return the model. Nothing is pruned yet.

    The layers' classes become masked subclasses, so the masks hold wherever the layers are used: in
    models without `call`, and in other models that share them. Weights, names and outputs stay the
    same. See `masked` for the layers that get masks, and for how to choose them.

    A model whose class Keras cannot rebuild works, too. Its `save_weights` and `load_weights` keep
    the masks; saving it as a `.keras` file raises an error.

    Args:
        model: a Keras 3 model whose layers are built.
        include: the layers to mask, frozen ones too. Default: all layers that are not frozen.
        exclude: the layers to leave dense. It wins over `include`.

    Raises:
        InputError: no layer is built; the model has nothing to prune; a name or class matches no
            layer; or a layer to exclude has masks already.
    """
    refusals.check(model, "mask")
    refusals.check_maskable(model, "mask")
    layers = keras_private.flatten_layers(model)
    # A graph has called its layers: what has no weights in them yet, none of them ever calls.
    graphs = filter(keras_private.functional, layers)
    called = {id(one) for graph in graphs for one in keras_private.flatten_layers(graph)}
    waiting = [one for one in layers if type(one) in MASKED and not one.built]
    if not_built := [one.name for one in waiting if id(one) not in called]:
        raise InputError(
            f"mask: {model.name} has layers without weights yet: {', '.join(not_built)}. Call the "
            "model, or the part of it that holds them, on a batch first."
        )
    left, frozen = _left_out(model, include, exclude, of="mask")
    _put_masks(model, left)
    keras_private.forget_functions(layers)  # they were compiled without masks
    _warn(model, frozen, chosen=include is not None)
    return model


def masked(
    model: keras.Model, *, include: Choice | None = None, exclude: Choice | None = None
) -> keras.Model:
    """Return a copy of a model with masks on its kernels. Nothing is pruned yet.

        model = lottery_tf.masked(keras.applications.MobileNetV2(), exclude="predictions")

    These layers get masks, also in nested models, wrappers, attention and layers of your own:
    Dense, EinsumDense, convolutions (transposed, depthwise, separable), Embedding and recurrent
    layers. The masks hold in `fit`, and are saved and loaded with the model. A warning names the
    weights that stay dense: those of frozen layers, and of layers that masks do not know.

    Choose layers by name (of a layer or a nested model), by pattern (of the path of a layer or a
    kernel, such as `"encoder/*"` or `"*/recurrent_kernel"`), by class, by a function
    `layer -> bool`, or by a list of these. A layer that is not chosen stays a plain Keras layer.

    The copy is compared with the model on a random input, in inference and in training. If the
    model cannot be copied, use `mask`.

    Args:
        model: a built Keras 3 model that Keras can rebuild: functional, sequential, or of a class
            with get_config.
        include: the layers to mask, frozen ones too. Default: all layers that are not frozen.
        exclude: the layers to leave dense. It wins over `include`.

    Raises:
        InputError: the model is not built, cannot be copied, or has nothing to prune; a name or
            class matches no layer; or a layer to exclude has masks already.
    """
    refusals.check(model, "masked")
    if not model.built:
        raise InputError(
            f"masked: expected a built Keras model, with a keras.Input first. Received: {model!r}"
        )
    refusals.check_maskable(model, "masked")
    left, frozen = _left_out(model, include, exclude, of="masked")
    with keras_generators.kept():
        copy = copying.copy(model, model.get_weights())
        _put_masks(copy, left)
        copying.check_same(model, copy, "masked")
        _compile(model, copy)
    _warn(copy, frozen, chosen=include is not None)
    return copy


def unmasked(model: keras.Model) -> keras.Model:
    """Return a copy of a masked model with plain Keras layers, whose pruned weights are zeros.

    Layer names, the order of weights and shared layers stay the same. The copy is not compiled.
    Keras's `quantize`, `export` and `enable_lora` work on it. Training it revives pruned weights.
    LoRA of the masked model is merged into the kernels.

    Args:
        model: a model that `masked`, `mask` or `load` returned.

    Raises:
        InputError: the model has no masks, or cannot be copied.
    """
    refusals.check(model, "unmasked")
    if not model.built:
        raise InputError(f"unmasked: expected a built Keras model. Received: {model!r}")
    weights, masks = network.get_weights(model), network.get_masks(model)
    for layer in filter(low_rank.adapters, keras_private.flatten_layers(model)):
        kernel = keras_private.stored_variable(layer, low_rank.kernel_name(layer))
        weights[kernel.path] = low_rank.merged(layer)
        for variable in low_rank.adapters(layer):
            del weights[variable.path]
    arrays = [array * masks[path] if path in masks else array for path, array in weights.items()]
    with keras_generators.kept():
        try:
            plain = copying.copy(model, arrays, plain=True)
        except InputError as error:
            raise InputError(f"unmasked: {error}") from error
        network.name_apart(plain)
        copying.check_same(model, plain, "unmasked")
    return plain


def unmask(model: keras.Model) -> keras.Model:
    """Take the masks off a model, in place, and return the model: its layers are plain Keras
    layers.

    Pruned weights are zeros, and training revives them. Use it where `unmasked` cannot copy the
    model. LoRA of a layer is merged into its kernel and restarts.

    Args:
        model: a model that `mask`, `masked` or `load` returned.

    Raises:
        InputError: the model has no masks.
    """
    network.kernels(model)  # raises if there is none
    layers = keras_private.flatten_layers(model)
    unmask_inside(model)
    keras_private.forget_functions(layers)
    return model


def _put_masks(model: keras.Model, left_dense: list[str]) -> None:
    mask_inside(model, left_dense)
    network.variables(model)  # raises if there is nothing to prune
    _note_saving(model)


def _note_saving(model: keras.Model) -> None:
    """Let the layers that would lose their masks in a `.keras` file refuse to be saved in one."""
    own = [
        layer
        for layer in keras_private.flatten_layers(model)
        if isinstance(layer, MaskedInside) or (isinstance(layer, Composite) and layer.left_dense)
    ]
    if not own:
        return  # Keras's layers, and ours, keep them
    expected = [kernel.variable.shape for kernel in network.kernels(model).values()]
    try:
        with warnings.catch_warnings(), keras_generators.kept():
            warnings.simplefilter("ignore")  # loading tells them again
            loaded = network.kernels(keras_private.as_loaded(model))
        shapes = [kernel.variable.shape for kernel in loaded.values()]
        received = str(len(shapes))
    except Exception as error:  # whatever Keras and the user's classes raise
        if is_ours(error):
            raise
        shapes, received = [], keras_private.cause(error)
    if shapes != expected:
        names = ", ".join(sorted({layer.plain.__name__ for layer in own}))
        for layer in own:
            layer.saving_problem = (
                f"{model.name} cannot be saved as a whole: loading would not give it its masks, "
                f"which lie inside {names}: expected {len(expected)} masks. Received: {received}. "
                "Use save_weights and load_weights, which keep the masks. Or let from_config make "
                "cls(**config), and build or call make the same layers each time."
            )


def _warn(model: keras.Model, frozen: list[str], *, chosen: bool) -> None:
    """Name the frozen layers without masks and, unless layers were chosen, other dense weights."""
    if frozen:
        warnings.warn(
            f"Frozen layers of {model.name} get no masks: {', '.join(frozen)}. To prune them, name "
            "them in include=, and set trainable = True.",
            stacklevel=3,
        )
    candidates = {one.variable.path for one in choosing.candidates(model)}
    dense = [] if chosen else [path for path in left_dense(model) if path not in candidates]
    if dense:
        warnings.warn(f"Left dense in {model.name}: {', '.join(dense)}", stacklevel=3)


def _left_out(
    model: keras.Model, include: Choice | None, exclude: Choice | None, *, of: str
) -> tuple[list[str], list[str]]:
    """Return (places of the kernels that get no mask, paths of those among them that are frozen).

    A choice that is wrong, or leaves nothing to mask, raises InputError.
    """
    every = choosing.candidates(model)
    trained = {id(variable) for variable in model.trainable_variables}
    wanted = [one for one in every if id(one.variable) in trained or isinstance(one.layer, Masked)]
    if include is not None:
        wanted = choosing.chosen(include, every, of="include")
    excluded = [] if exclude is None else choosing.chosen(exclude, every, of="exclude")
    kept = set(wanted) - set(excluded)
    left = [one for one in every if one not in kept]
    if has_masks := [
        one.variable.path
        for one in left
        if isinstance(one.layer, Masked) and one.name not in one.layer.left_dense
    ]:
        raise InputError(
            f"{of}: these kernels have masks already and cannot be left dense: "
            f"{', '.join(has_masks)}. Begin with lottery_tf.unmasked(model)."
        )
    if every and not kept:
        raise InputError(
            f"{of}: include= and exclude= leave nothing to prune in {model.name}. Kernels that "
            f"could have masks, if include= names them and exclude= does not: "
            f"{choosing.shortened(one.variable.path for one in every)}."
        )
    frozen = [
        one.variable.path
        for one in left
        if include is None and id(one.variable) not in trained and one not in excluded
    ]
    refusals.check_readers(model, kept, of)
    where = places(model)
    return [f"{place}/{one.name}" for one in left for place in where[id(one.layer)]], frozen


def _compile(model: keras.Model, copy: keras.Model) -> None:
    """Compile a copy as the model is, or warn that Keras cannot rebuild what that needs."""
    if not model.compiled:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a compile() of the user's own; told below
            copy.compile_from_config(model.get_compile_config())
        if copy.compiled:
            return
        problem = "The class has a compile() of its own."
    except Exception as error:  # of a loss, metric or schedule that is not registered
        if is_ours(error):
            raise
        problem = f"{type(error).__name__}: {keras_private.cause(error)}"
    copy.compiled = False
    warnings.warn(
        f"The copy of {model.name} is not compiled, as Keras cannot rebuild the model's optimizer, "
        f"losses or metrics: call compile on the copy. {problem:.200}",
        stacklevel=3,
    )


def left_dense(model: keras.Model) -> list[str]:
    """Return the paths of trainable variables without a mask, of rank 2 or more, but biases."""
    kernels = network.kernels(model)
    return [
        variable.path
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name != "bias" and variable.path not in kernels
    ]
