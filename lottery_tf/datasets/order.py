"""The order of the data: a function of the SGD noise and the epoch alone. NumPy only."""

import numpy as np

from lottery_tf.pruning import Array
from lottery_tf.pruning.streams import Noise


def visit_order(
    shard_lengths: list[int], noise: Noise, epoch: int, *, window: int
) -> tuple[Array, Array, Array]:
    """Return the order in which an epoch visits the examples.

    Shards are permuted and concatenated, cut into windows of `window` records, and the records
    permuted inside each window: an order that can be read from files as it can be gathered.

    Args:
        shard_lengths: examples of each shard.
        noise, epoch: the SGD noise, and the epoch counted from 0.
        window: records per window.

    Returns:
        (shards, positions, examples): the order of the shards; for each place of the epoch, its
        record's position in the concatenation of the permuted shards, and its index in that of
        the unpermuted ones. int64 arrays of (shards,), (examples,), (examples,).
    """
    generator = noise.order(epoch)
    lengths = np.asarray(shard_lengths)
    shards = generator.permutation(len(lengths))
    positions = np.arange(lengths.sum())
    for start in range(0, len(positions), window):
        generator.shuffle(positions[start : start + window])
    starts = np.cumsum(lengths) - lengths
    concatenated = np.concatenate([starts[s] + np.arange(lengths[s]) for s in shards])
    return shards, positions, concatenated[positions]
