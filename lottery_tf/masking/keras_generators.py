"""The generators that Keras and its backends draw from, behind names that they keep to themselves.

Tried with Keras 3.15 and TensorFlow 2.21.
"""

import contextlib
import functools
import random
from collections.abc import Iterator

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.utils import rng_utils


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
    names = ("_seed", "_rng")  # the second is there only after a first seed
    held = {name: getattr(now, name) for name in names if hasattr(now, name)}

    def restore():  # a new seed comes with a new generator, so the old one stays at its number
        for name in names:
            if name in held:
                setattr(now, name, held[name])
            else:
                delattr(now, name)

    return restore


def _torch_restorer():
    import torch

    return functools.partial(torch.set_rng_state, torch.get_rng_state())
