"""Pruning for any functional or sequential Keras 3 model, under the user's own training."""

import dataclasses
import warnings

import keras

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.resets import RESETS


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedMultiHeadAttention(keras.layers.MultiHeadAttention):
    """keras.layers.MultiHeadAttention whose four projections are masked."""

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedGroupQueryAttention(keras.layers.GroupQueryAttention):
    """keras.layers.GroupQueryAttention whose four projections are masked."""

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


# Keras layers that make layers of their own when they are built: the classes that mask those.
COMPOSITE = {
    keras.layers.MultiHeadAttention: MaskedMultiHeadAttention,
    keras.layers.GroupQueryAttention: MaskedGroupQueryAttention,
}


def masked(model):
    """A copy of a model with masked layers, its weights kept, and nothing pruned yet.

    Dense, EinsumDense, Conv, their transposes, DepthwiseConv and SeparableConv become masked, also
    in nested models, wrappers and MultiHeadAttention. The masks hold under `fit`, and are saved
    and loaded with the model. A warning names what stays dense. Compile the copy before `fit`.

    Args:
        model: a built functional or sequential Keras 3 model.

    Raises:
        InputError: the model is not built, cannot be copied, or has nothing to prune.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise InputError(
            f"masked: expected a built Keras model, with a keras.Input first. Received: {model!r}"
        )
    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"masked: {model.name} cannot be copied; it is, or holds, a subclassed model whose "
            "layers cannot be rebuilt. Write it as a functional model, or use masked layers in it, "
            "as lottery_tf.masking.MaskedDense for Dense: then prune, rounds and fit work as they "
            f"are. Keras says: {error}"
        ) from error
    mask_inside(copy)
    masking.variables(copy)  # nothing to prune, or two variables of one path, are errors
    dense = left_dense(copy)
    if dense:
        warnings.warn(f"Left dense in {model.name}: {', '.join(dense)}", stacklevel=2)
    return copy


def mask_inside(layer):
    """Masks, in place, the layers that a built layer or model holds."""
    for inner in layer._flatten_layers(include_self=False):
        if type(inner) in masking.MASKED:
            inner.__class__ = masking.MASKED[type(inner)]
            # As Keras does when it adds LoRA's weights to a layer that is already built.
            inner._tracker.unlock()
            inner.add_masks()
            inner._tracker.lock()
        elif type(inner) in COMPOSITE:
            inner.__class__ = COMPOSITE[type(inner)]


def left_dense(model):
    """Paths of the trainable variables of rank 2 or more, but biases, that have no mask."""
    kernels = masking.kernels(model)
    return [
        variable.path
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name != "bias" and variable.path not in kernels
    ]


def prune(model, fraction, *, criterion="magnitude", scope="global"):
    """Prunes a masked model in place, on top of what is pruned already.

    Args:
        model: as `masked` returns it.
        fraction, criterion, scope: as in lottery_tf.pruning.prune.

    Returns:
        The density that is left.
    """
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    masks, _ = pruning.prune(weights, masks, fraction, criterion=criterion, scope=scope)
    masking.set_weights(model, pruning.apply_masks(weights, masks), masks)
    return pruning.density(masks)


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of `rounds`: its number, counted from 0, and the density it trains at."""

    index: int
    density: float


def rounds(model, rounds, fraction, *, reset="init", seed=0, criterion="magnitude", scope="global"):
    """Iterative magnitude pruning around the user's own training.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3)

    Each turn starts from the reset weights under the next masks, with a fresh optimizer state; the
    first from the weights and masks that the model has. After the last turn the model is as its
    training left it.

    Args:
        model: as `masked` returns it, compiled if its optimizer is to start afresh.
        rounds: number of turns.
        fraction: part of the survivors that is pruned after each turn but the last.
        reset: "init", the weights that the model has now; "reinit", a fresh initialization in
            every turn but the first.
        seed: of the fresh initializations.
        criterion, scope: as in lottery_tf.pruning.prune.

    Yields:
        Round.
    """
    if reset not in RESETS:
        raise InputError(f"reset: expected one of {', '.join(RESETS)}. Received: {reset}")
    if rounds < 1:
        raise InputError(f"rounds: expected at least 1. Received: {rounds}")
    start, masks = masking.get_weights(model), masking.get_masks(model)
    optimizer = getattr(model, "optimizer", None)
    optimizer_config = optimizer and optimizer.get_config()  # with the rate it has now

    def initialization(index):
        return _fresh(model, seed + index) if index else start

    for index in range(rounds):
        masking.set_weights(model, RESETS[reset](initialization, masks, index), masks)
        if optimizer:
            _renew(optimizer, optimizer_config, model)
        yield Round(index, pruning.density(masks))
        if index < rounds - 1:
            weights = masking.get_weights(model)
            masks, _ = pruning.prune(weights, masks, fraction, criterion=criterion, scope=scope)


def _fresh(model, seed):
    keras.utils.set_random_seed(seed)
    fresh = masking.get_weights(keras.models.clone_model(model))
    # A copy may name its nested variables otherwise; their order is the model's.
    return dict(zip(masking.variables(model), fresh.values(), strict=True))


def _renew(optimizer, config, model):
    """Sets an optimizer's variables to those of a new one of the same configuration."""
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    new = type(optimizer).from_config(config)
    new.build(model.trainable_variables)
    for variable, fresh in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(fresh.value)
