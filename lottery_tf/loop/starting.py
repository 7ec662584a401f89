"""What a round of `rounds` starts from: weights, fresh ones among them, and fresh optimizers."""

import contextlib
import functools
import hashlib
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators, keras_private, optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer
from lottery_tf.pruning import Weights, streams
from lottery_tf.pruning.resets import Sources

# {model: what `_fingerprint` gave of the first weights of the last `rounds` that it was given}
_FIRST: weakref.WeakKeyDictionary[keras.Model, str] = weakref.WeakKeyDictionary()

# Resets that draw fresh weights.
FRESH = ("reinit", "signs", "trained_signs")


def sources(model: keras.Model, start: Weights, seed: int, rewind_point: Callable[[], Weights],
            rewind_to: int) -> Callable[[int], Sources]:  # fmt: skip
    """A function of the turn that gives what its reset can draw on."""
    return lambda turn: Sources(
        lambda index: initialization(model, start, seed, index) if index else start,
        trained=lambda: masking.get_weights(model),
        rewind_point=rewind_point,
        rewind_step=rewind_to,
        last_step=0,
        generator=functools.partial(streams.shuffled_weights, seed, turn),
    )


def initialization(model: keras.Model, start: Weights, seed: int, turn: int) -> Weights:
    """{variable path: array}: what is trainable drawn anew by its own initializer.

    Statistics of trainable BatchNorm layers begin again. All else stays as it started: frozen
    layers, adapted statistics, tables. The draw is a function of (seed, turn) alone.

    Args:
        model: a built model.
        start: {variable path: array}, of turn 0.
        seed: of all turns.
        turn: its number, from 1.

    Raises:
        InputError: the model cannot be rebuilt.
    """
    drawn = keras_generators.from_seed(
        streams.initialization_seed(seed, turn), functools.partial(_drawn, model)
    )
    anew = _begins_anew(model)
    return {
        path: drawn[id(variable)].numpy() if id(variable) in anew else start[path]
        for path, variable in masking.variables(model).items()
    }


def _drawn(layer):
    """{id(variable): the one like it, drawn anew}, by a copy of a layer or of the parts of it."""
    try:
        copy = _rebuilt(layer)
    except InputError:
        parts = keras_private.inner_layers(layer)
        of_parts = {id(weight) for part in parts for weight in part.weights}
        if any(id(weight) not in of_parts for weight in layer.trainable_weights):
            raise
        # As a VAE or a GAN is written: what has weights are layers that can be copied.
        return {key: new for part in parts if part.weights for key, new in _drawn(part).items()}
    # A copy may name its nested variables otherwise; their order is the layer's.
    pairs = zip(_without_masks(layer), _without_masks(copy), strict=True)
    return {id(old): new for old, new in pairs}


def _without_masks(layer):
    """The weights of a layer or model, without its masks."""
    return [weight for weight in layer.weights if not isinstance(weight, masking.Mask)]


def _begins_anew(model):
    """The ids of the variables that a fresh initialization sets."""
    found = {id(variable) for variable in model.trainable_variables}
    for layer in keras_private.flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            found |= {id(variable) for variable in layer.weights}
    return found


def _rebuilt(model):
    """A new model of the same layers, which draws from the generators as they are."""

    def rebuild(layer):
        return type(layer).from_config(_without_seeds(layer.get_config()))

    try:
        if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
            with keras_private.uncompiled(model), keras_private.own_objects():
                return keras.models.clone_model(
                    model, clone_function=rebuild, recursive=keras_private.shares_layers(model)
                )
        copy = type(model).from_config(_without_seeds(model.get_config()))
        if not copy.built and (config := model.get_build_config()):
            copy.build_from_config(config)
        if len(_without_masks(copy)) != len(_without_masks(model)):
            raise ValueError("the copy has other variables.")
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"reset: fresh weights are drawn by a copy of the model, but {model.name} cannot be "
            "rebuilt. Write it as a functional model, give its class get_config() and "
            f"build_from_config(), or use another reset, as init. Keras says: {error}"
        ) from error
    return copy


def _without_seeds(config: Any, name: str = "") -> Any:
    """A layer's configuration whose initializers draw from the generators, not a seed of theirs."""
    if isinstance(config, list | tuple):
        return type(config)(_without_seeds(item, name) for item in config)
    if not isinstance(config, dict):
        return config
    config = {key: _without_seeds(value, str(key)) for key, value in config.items()}
    inner = config.get("config")
    if name.endswith("initializer") and isinstance(inner, dict) and "seed" in inner:
        config["config"] = inner | {"seed": None}
    return config


def note(model: keras.Model, start: Weights) -> None:
    """Notes the first weights of rounds that begin, under the masks that the model has."""
    _FIRST[model] = _fingerprint(start, masking.get_masks(model))


def warn_if_trained(model: keras.Model, stacklevel: int) -> None:
    """Warns where earlier rounds have trained a model: the next ones start from what they left."""
    masks = masking.get_masks(model)
    now = _fingerprint(masking.get_weights(model), masks)
    if _FIRST.get(model, now) != now:
        warnings.warn(
            f"rounds: {model.name} has been through rounds before. Round 0 starts from the weights "
            f"and masks that it has now, at density {pruning.density(masks):.2%}, and not from its "
            "first weights. To begin with those again, make the model anew, or keep them in "
            "first = masking.get_weights(model), masking.get_masks(model) (of lottery_tf.masking) "
            "and set them by masking.set_weights(model, *first) before each call.",
            stacklevel=stacklevel + 1,
        )


def _fingerprint(weights, masks):
    """A digest of masks and of the floating-point weights under them."""
    digest = hashlib.blake2b()
    arrays = [one for one in pruning.apply_masks(weights, masks).values() if one.dtype.kind == "f"]
    for array in (*arrays, *masks.values()):
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


class FreshOptimizers:
    """Sets optimizers back to how they were when the model was compiled, or `rounds` began.

    These are all that the model and its layers hold, and those inside of them.

    Args:
        model: a built model, compiled or not.
        others: further optimizers, which the model does not hold.

    Raises:
        InputError: one has trained already, and cannot begin again.
    """

    def __init__(self, model: keras.Model, others: Sequence[Optimizer] = ()):
        self.model, self.others = model, others
        self._beginnings: dict[int, optimizer_state.Beginning] = {}  # {id of the optimizer: …}
        with self._scope():
            self._remember()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """While it is open, what the user compiles is remembered as it is then."""
        compile = getattr(vars(self.model).get("compile"), "__wrapped__", self.model.compile)

        @functools.wraps(compile)
        def compile_and_remember(*args, **options):
            compile(*args, **options)
            self._beginnings.pop(id(_optimizer_of(self.model)), None)
            with self._scope():
                self._remember()

        self.model.compile = compile_and_remember
        try:
            yield
        finally:
            if vars(self.model).get("compile") is compile_and_remember:
                del self.model.compile

    def renew(self) -> list[str]:
        """Sets every variable of the optimizers to its first value; the names of the optimizers."""
        with self._scope():
            self._remember()  # those that were set without compile()
            for beginning in self._beginnings.values():
                beginning.again()
        return [f"{name} ({type(one).__name__})" for name, one in self._held().items()]

    def _scope(self):
        # Variables that are made outside of the model's strategy do not go with it.
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy.scope() if strategy else contextlib.nullcontext()

    def _held(self):
        """{name: optimizer}, without those inside of others."""
        held = optimizer_state.find(self.model)
        known = {id(one) for one in held.values()}
        given = {f"optimizers[{i}]": one for i, one in enumerate(self.others)}
        return held | {name: one for name, one in given.items() if id(one) not in known}

    def _remember(self):
        """Remembers the optimizers that are new, and forgets those that are held no more."""
        own = _optimizer_of(self.model)
        if own is not None and not own.built:
            own.build(self.model.trainable_variables)
        all_of_them = [
            o for held in self._held().values() for o in optimizer_state.with_inner(held)
        ]
        self._beginnings = {
            id(one): self._beginnings.get(id(one)) or optimizer_state.Beginning(one)
            for one in all_of_them
        }


def _optimizer_of(model):
    return getattr(model, "optimizer", None)
