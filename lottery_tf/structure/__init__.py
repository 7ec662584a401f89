"""Which weights of a Keras model belong together: axes of kernels, and channels of its graph."""

from typing import Any

import keras

from lottery_tf.pruning.structure import Structure, parse
from lottery_tf.structure.layouts import layouts

__all__ = ["layouts", "structure_of"]


def structure_of(network: keras.Layer, structure: Any, pool: str = "sum") -> Structure | None:
    """Return what a user's `structure=` means for a masked network; None for single weights.

    Args:
        network: masked and built.
        structure: as `pruning.structure.parse` takes it.
        pool: as of Structure.

    Raises:
        InputError: one of them is unknown.
    """
    pattern = parse(structure)
    return None if pattern is None else Structure(pattern, pool, layouts(network))
