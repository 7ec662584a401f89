"""Cut inputs, labels and sample weights into the batches that a loss is computed on."""

from typing import Any

import keras

BATCH_SIZE = 500  # examples of arrays that are computed at once
Batch = tuple[Any, Any, Any]  # inputs, labels and sample weights: arrays, structures, or None


def in_batches(
    inputs: Any, labels: Any, weights: Any = None, size: int = BATCH_SIZE
) -> list[Batch]:
    """Cut structures of arrays into batches of `size` examples; the last one may be smaller."""
    arrays = inputs, labels, weights
    examples = examples_of(arrays)
    return [
        keras.tree.map_structure(lambda a: a if a is None else a[first : first + size], arrays)  # noqa: B023
        for first in range(0, examples, size)
    ]


def examples_of(arrays: Any) -> int:
    """Return the number of examples in a structure of arrays."""
    return next(int(a.shape[0]) for a in keras.tree.flatten(arrays) if a is not None)
