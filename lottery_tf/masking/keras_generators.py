"""Keep the state of the process that Keras and its backends have behind private names.

It is the state that building a layer reads and changes: the random generators, the counters of
automatic names, and the dtype policy. Tried with Keras 3.15 and TensorFlow 2.21.
"""

import collections
import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.utils import rng_utils

Made = TypeVar("Made")

# Attributes of Keras's global state. The generator has a constant of that value from 3.13 on.
NAME_COUNTERS = "object_name_uids"
SEED_GENERATOR = "global_seed_generator"
KEPT = (rng_utils.GLOBAL_RANDOM_SEED, SEED_GENERATOR, NAME_COUNTERS, "dtype_policy")
OF_TENSORFLOW = ("_seed", "_rng")  # TensorFlow has the second only after a first seed


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Undo changes of the process-wide state at the end of the context.

    The state is the generators of Python, NumPy, Keras and the backend, Keras's counters of
    automatic names, and its dtype policy. Inside, everything starts from the state of the process.
    """
    python, of_numpy = random.getstate(), np.random.get_state()
    held = {name: global_state.get_global_attribute(name) for name in KEPT}
    names = dict(held[NAME_COUNTERS] or {})
    generator = held[SEED_GENERATOR]
    drawn = None if generator is None else keras.ops.convert_to_numpy(generator.state)
    with _kept_in_tensorflow(), _kept_in_torch():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(of_numpy)
            held[NAME_COUNTERS] = collections.defaultdict(int, names)
            for name, value in held.items():
                global_state.set_global_attribute(name, value)
            if generator is not None:
                generator.state.assign(drawn)


def from_seed(
    seed: int, make: Callable[[], Made], *, policy: str | None = None, anew: bool = False
) -> Made:
    """Return make(), with every draw that has no seed of its own a function of `seed`.

    The state of the process stays as it is: see `kept`.

    Args:
        seed: non-negative, below 2**32.
        make: a function that builds layers. It may be called twice.
        policy: the dtype policy that it sees. Default: that of the process.
        anew: whether automatic names count from the beginning.
    """
    for is_second in (False, True):
        with kept():
            if anew:
                global_state.set_global_attribute(NAME_COUNTERS, None)
            if policy:
                keras.config.set_dtype_policy(policy)
            before = _set_seed(seed, clear=is_second)
            made = make()
            # TensorFlow's own random operations, which Keras's layers do not use, keep a state in
            # a cache of kernels. Only clearing the cache makes such draws start from the seed. It
            # also restarts the draws of the caller's functions, so it is not done without need.
            if is_second or _tensorflow_state() == before:
                break
    return made


def _set_seed(seed: int, *, clear: bool) -> Any:
    """Seed everything as keras.utils.set_random_seed does; return the state of TensorFlow."""
    global_state.set_global_attribute(rng_utils.GLOBAL_RANDOM_SEED, seed)
    global_state.set_global_attribute(SEED_GENERATOR, None)
    random.seed(seed)
    np.random.seed(seed)
    if context := _tensorflow_context():
        context._seed, context._rng = seed, random.Random(seed)
        if clear:
            context.clear_kernel_cache()
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)
    return _tensorflow_state()


def _tensorflow_context() -> Any:
    """Return TensorFlow's eager context; None where no one has imported TensorFlow."""
    if sys.modules.get("tensorflow") is None:
        return None
    from tensorflow.python.eager import context

    return context.context()


def _tensorflow_state() -> Any:
    # A context that nobody has seeded has no generator: that of a TensorFlow just imported.
    generator = getattr(_tensorflow_context(), "_rng", None)
    return generator and generator.getstate()


@contextlib.contextmanager
def _kept_in_tensorflow() -> Iterator[None]:
    context = _tensorflow_context()
    held = {name: getattr(context, name) for name in OF_TENSORFLOW if hasattr(context, name)}
    state = held["_rng"].getstate() if "_rng" in held else None
    try:
        yield
    finally:
        for name in OF_TENSORFLOW:
            if name in held:
                setattr(context, name, held[name])
            elif hasattr(context, name):
                delattr(context, name)
        if state:
            held["_rng"].setstate(state)


def _kept_in_torch() -> contextlib.AbstractContextManager[Any]:
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.random.fork_rng()
