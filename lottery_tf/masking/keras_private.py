"""Every use of a name that Keras keeps to itself; a new version of Keras is checked here.

Tried with Keras 3.15.
"""

import contextlib
import functools
import random
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.utils import rng_utils

from lottery_tf.errors import InputError


def flatten_layers(model: keras.Layer, *, include_self: bool = True) -> list[keras.Layer]:
    """The layers of a model, those inside nested models and wrappers too, in their order."""
    return list(model._flatten_layers(include_self=include_self))


def add_weights(layer: keras.Layer, add: Callable[[], None]) -> None:
    """Calls add() while a layer that is built may get further weights, as for LoRA in Keras."""
    layer._tracker.unlock()
    add()
    layer._tracker.lock()


def stored_variable(layer: keras.Layer, name: str) -> keras.Variable:
    """The variable of a kernel: Dense and Conv keep it as _kernel, behind a property."""
    return layer.__dict__.get(f"_{name}", layer.__dict__.get(name))


def slot_index(optimizer: keras.Optimizer, variable: keras.Variable) -> int:
    """The place of a variable's slot in the lists that add_optimizer_variables gives."""
    return optimizer._get_variable_index(variable)


def nodes(network: keras.Model) -> list:
    """The calls of layers in a functional model, in the order of their execution.

    Raises:
        InputError: the network is not functional.
    """
    if not isinstance(network, keras.Model) or not hasattr(network, "_nodes_by_depth"):
        raise InputError(
            f"--align=permutation knows functional models; {network.name} is a "
            f"{type(network).__name__}. Use --align=none."
        )
    depths = network._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def calls(layer: keras.Layer) -> int:
    """How often a layer is called in functional models."""
    return len(layer._inbound_nodes)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While it is open, all that draws without a seed of its own starts from this one.

    Afterwards Python's, NumPy's, Keras's and the backend's generators are as they were.
    """
    names = (rng_utils.GLOBAL_RANDOM_SEED, seed_generator.GLOBAL_SEED_GENERATOR)
    held = {name: global_state.get_global_attribute(name) for name in names}
    python, of_numpy = random.getstate(), np.random.get_state()
    restore = _torch_restorer() if keras.backend.backend() == "torch" else _tensorflow_restorer()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        for name, value in held.items():
            global_state.set_global_attribute(name, value)
        random.setstate(python)
        np.random.set_state(of_numpy)
        restore()


def _tensorflow_restorer():
    """A function that sets TensorFlow's generator of seeds back to how it is now."""
    from tensorflow.python.eager import context

    now = context.context()
    held = {name: getattr(now, name) for name in ("_seed", "_rng")}
    # A new seed comes with a new generator, so the old one stays at its number.
    return lambda: [setattr(now, name, value) for name, value in held.items()]


def _torch_restorer():
    import torch

    return functools.partial(torch.set_rng_state, torch.get_rng_state())


@contextlib.contextmanager
def uncompiled(model: keras.Model) -> Iterator[None]:
    """While it is open, a copy of a model needs no loss, metric or schedule to be serialized."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def begin_at_epoch_0(model: keras.Model) -> None:
    """Lets the next fit of a model begin at its first epoch.

    BackupAndRestore sets where its fit goes on; Keras keeps that for all later fits.
    """
    model._initial_epoch = None
