"""Which weights of a Keras model belong together: axes of kernels, and channels of its graph."""

from typing import Any

import keras

from lottery_tf.pruning.structure import CHANNEL, Structure, parse
from lottery_tf.structure.channels import channels_of
from lottery_tf.structure.layouts import layouts

__all__ = ["channels_of", "in_words", "layouts", "structure_of"]


SHOWN = 10  # kernels in a warning


def in_words(structure: Structure) -> str:
    """Return which layers keep all of their channels, and why; "" if there is none."""
    lines = [f"{path} ({reason})" for path, reason in structure.left.items()]
    more = [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    return f"Channels stay in {'; '.join([*lines[:SHOWN], *more])}" if lines else ""


def structure_of(network: keras.Layer, structure: Any, pool: str = "sum") -> Structure | None:
    """Return what a user's `structure=` means for a masked network; None for single weights.

    Args:
        network: masked and built.
        structure: as `pruning.structure.parse` takes it.
        pool: as of Structure.

    Raises:
        InputError: one of them is unknown; channels of a network without a graph.
    """
    pattern = parse(structure)
    if pattern is None:
        return None
    if pattern.kind != CHANNEL:
        return Structure(pattern, pool, layouts(network))
    channels, left = channels_of(network)
    return Structure(pattern, pool, channels=channels, left=left)
