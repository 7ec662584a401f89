"""What a turn of `rounds` starts from: weights, fresh ones among them, and a fresh optimizer."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators, keras_private, optimizer_state
from lottery_tf.method import Weights, streams
from lottery_tf.method.resets import Sources

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
    with keras_generators.seeded(streams.initialization_seed(seed, turn)):
        copy = _rebuilt(model)
    anew, held = _begins_anew(model), masking.variables(model)
    # A copy may name its nested variables otherwise; their order is the model's.
    pairs = zip(held.items(), masking.variables(copy).values(), strict=True)
    return {
        path: drawn.numpy() if id(variable) in anew else start[path]
        for (path, variable), drawn in pairs
    }


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
            with keras_private.uncompiled(model):
                return keras.models.clone_model(
                    model, clone_function=rebuild, recursive=keras_private.shares_layers(model)
                )
        copy = type(model).from_config(_without_seeds(model.get_config()))
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        if len(masking.variables(copy)) != len(masking.variables(model)):
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


class FreshOptimizer:
    """Sets the optimizer of a model back to how it was when it was compiled, or `rounds` began.

    Its first values are kept, so it need not be serialized.

    Args:
        model: a built model, compiled or not.
    """

    def __init__(self, model: keras.Model):
        self.model, self._optimizer = model, None
        self._first: dict[int, np.ndarray] = {}
        self._remember()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """While it is open, what the user compiles is remembered as it is then."""
        compile = self.model.compile

        @functools.wraps(compile)
        def compile_and_remember(*args, **options):
            compile(*args, **options)
            self._remember()

        self.model.compile = compile_and_remember
        try:
            yield
        finally:
            del self.model.compile

    def renew(self) -> None:
        """Sets every variable of the optimizer, if there is one, to its first value."""
        if _optimizer_of(self.model) is not self._optimizer:  # set without compile()
            self._remember()
        if self._optimizer is not None:
            optimizer_state.reset(self._optimizer, self._first)

    def _remember(self):
        self._optimizer = optimizer = _optimizer_of(self.model)
        if optimizer is None:
            return
        # Variables that are made outside of the model's strategy do not go with it.
        strategy = getattr(self.model, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            unused = not int(keras.ops.convert_to_numpy(optimizer.iterations))
            began = optimizer if unused else self._rebuilt(optimizer)
            self._first = optimizer_state.first_values(began)

    def _rebuilt(self, optimizer):
        """A new optimizer like one that has made steps, whose slots say no more how they began."""
        try:
            new = type(optimizer).from_config(optimizer.get_config())
            new.build(self.model.trainable_variables)
        except Exception as error:  # of whatever the user's schedule or map raises
            raise InputError(
                f"rounds: {self.model.name} has an optimizer that has trained already, and Keras "
                "cannot make a new one like it. Compile the model with a new optimizer first. "
                f"Keras says: {error}"
            ) from error
        return new


def _optimizer_of(model):
    return getattr(model, "optimizer", None)
