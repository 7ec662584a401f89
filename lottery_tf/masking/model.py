"""A masked copy of any functional or sequential Keras 3 model."""

import warnings
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import choosing, comparing, copying, keras_private, network
from lottery_tf.masking.choosing import Choice
from lottery_tf.masking.inside import Composite, MaskedInside, mask_inside, places
from lottery_tf.masking.masks import Masked


def masked(model: keras.Model, *, include: Choice | None = None,
           exclude: Choice | None = None) -> keras.Model:  # fmt: skip
    """A copy of a model with masked layers, its weights kept, and nothing pruned yet.

    Dense, EinsumDense, Conv, their transposes, DepthwiseConv, SeparableConv, Embedding and
    recurrent layers become masked, also in nested models, wrappers, attention, and layers of the
    user's own. The masks hold under `fit`, and are saved and loaded with the model. A warning names
    what stays dense: frozen layers, and trainable weights that masks do not know.

    Layers are chosen by name (also of a nested model), by pattern (of the path of a layer or a
    kernel, as "encoder/*" or "*/recurrent_kernel"), by class, by a function `layer -> bool`, or by
    a list of these. What is not chosen stays a plain Keras layer.

    Args:
        model: a built functional or sequential Keras 3 model.
        include: the layers to mask, frozen ones too. Default: all that are not frozen.
        exclude: layers to leave dense; it wins over `include`.

    Raises:
        InputError: the model is not built, cannot be copied, or has nothing to prune; a name or
            class means no layer, or a layer to exclude has masks already.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(
            f"masked: expected a built Keras model, with a keras.Input first. Received: {model!r}"
        )
    left, frozen = _left_out(model, include, exclude)
    copy = copying.copy(model, model.get_weights())
    mask_inside(copy, left)
    network.variables(copy)  # nothing to prune, or two variables of one path, are errors
    comparing.check_same(model, copy)
    _check_saving(copy)
    _compile(model, copy)
    _warn(copy, frozen, chosen=include is not None)
    return copy


def _warn(copy, frozen, *, chosen):
    """Names the frozen layers without masks and, where nothing was chosen, what cannot have any."""
    if frozen:
        warnings.warn(
            f"Frozen layers of {copy.name} get no masks: {', '.join(frozen)}. To prune them, name "
            "them in include=, and set trainable = True.",
            stacklevel=3,
        )
    known = {one.variable.path for one in choosing.candidates(copy)}
    dense = [] if chosen else [path for path in left_dense(copy) if path not in known]
    if dense:
        warnings.warn(f"Left dense in {copy.name}: {', '.join(dense)}", stacklevel=3)


def _left_out(model, include, exclude):
    """(places of the kernels that get no mask, paths of those among them that are frozen)."""
    every = choosing.candidates(model)
    trained = {id(variable) for variable in model.trainable_variables}
    wanted = [one for one in every if id(one.variable) in trained or isinstance(one.layer, Masked)]
    if include is not None:
        wanted = choosing.chosen(include, every, of="include")
    out = [] if exclude is None else choosing.chosen(exclude, every, of="exclude")
    keys = {one.key for one in wanted} - {one.key for one in out}
    left = [one for one in every if one.key not in keys]
    if has_masks := [one.variable.path for one in left if one.has_mask]:
        raise InputError(
            f"masked: to be left dense, but with masks already: {', '.join(has_masks)}. Begin with "
            "lottery_tf.unmasked(model)."
        )
    if every and not keys:
        raise InputError(
            f"masked: nothing to prune is left of {model.name}. Kernels that could have masks, if "
            f"include= names them and exclude= does not: {choosing.listed(every)}."
        )
    named = {one.key for one in out}
    frozen = [
        one.variable.path
        for one in left
        if include is None and id(one.variable) not in trained and one.key not in named
    ]
    where = places(model)
    return [f"{place}/{one.name}" for one in left for place in where[id(one.layer)]], frozen


def _check_saving(copy):
    """InputError if a copy would lose masks when it is saved and loaded."""
    own = [
        layer
        for layer in keras_private.flatten_layers(copy)
        if isinstance(layer, MaskedInside) or (isinstance(layer, Composite) and layer.left_dense)
    ]
    if not own:
        return  # Keras's layers and ours are known to do
    expected = [kernel.variable.shape for kernel in network.kernels(copy).values()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # loading tells them again
            loaded = network.kernels(keras_private.as_loaded(copy))
        found: Any = [kernel.variable.shape for kernel in loaded.values()]
    except Exception as error:  # whatever Keras and the user's classes raise
        found = error
    if found != expected:
        names = ", ".join(sorted({layer.plain.__name__ for layer in own}))
        raise InputError(
            f"masked: {copy.name} could be saved, but not loaded with its masks, which lie inside "
            f"{names}: expected {len(expected)} masks. Received: "
            f"{found if isinstance(found, Exception) else len(found)}. Let from_config make "
            "cls(**config), and build or call make the same layers each time."
        )


def _compile(model, copy):
    """Compiles a copy as the model is, if Keras can rebuild its optimizer, losses and metrics."""
    if not model.compiled:
        return
    try:
        copy.compile_from_config(model.get_compile_config())
    except Exception:  # a loss, metric or schedule that is not registered
        copy.compiled = False


def left_dense(model: keras.Model) -> list[str]:
    """Paths of the trainable variables of rank 2 or more, but biases, that have no mask."""
    kernels = network.kernels(model)
    return [
        variable.path
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name != "bias" and variable.path not in kernels
    ]
