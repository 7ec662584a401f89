"""The `data` of criteria, in every form that Keras's `fit` takes, as a few batches in memory."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError, is_ours
from lottery_tf.masking import keras_private
from lottery_tf.masking.batches import BATCH_SIZE, Batch, examples_of, in_batches

BATCHES = 100  # at most so many are read of what comes in batches
FORMS = (
    "what fit takes: (inputs, labels), (inputs, labels, sample_weight), inputs alone, a "
    "tf.data.Dataset, a PyDataset, or a generator"
)


class Sample:
    """The data of one call of `prune` or `rounds`, read once, when they are first needed.

    All examples of arrays are used. Of a dataset, a loader or a generator, the first BATCHES
    batches are.

    Args:
        data: as the user gives it: a tuple (or list) of inputs, labels and sample weights, of which
            the last ones may be missing; else inputs, or what yields batches.

    Raises:
        InputError: it is not what `fit` takes, or arrays have different numbers of examples.
    """

    def __init__(self, data: Any):
        if not isinstance(data, tuple | list):
            data = (data,)
        if not 1 <= len(data) <= 3:
            raise InputError(f"data: expected {FORMS}. Received: a tuple of {len(data)} elements")
        self._parts = (*data, None, None)[:3]
        arrays = [a for a in keras.tree.flatten(self._parts) if a is not None]
        self._is_plain = all(isinstance(a, np.ndarray) or keras.ops.is_tensor(a) for a in arrays)
        if self._is_plain:
            sizes = [a.shape[0] if len(a.shape) else None for a in arrays]
            if data[0] is None or len(set(sizes)) != 1 or not sizes[0]:
                found = ", ".join(f"{size} examples" for size in sizes) or "none"
                raise InputError(
                    f"data: expected {FORMS}; arrays of the same number of examples, at least one. "
                    f"Received: arrays of {found}"
                )

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """[(inputs, labels, sample weights)].

        Raises:
            InputError: they cannot be read, or there is none.
        """
        if (
            self._is_plain
        ):  # with the numbers as they are, where `fit` would make float32 of float64
            return in_batches(*self._parts)
        try:
            found = [keras.utils.unpack_x_y_sample_weight(batch) for batch in self._read()]
            for batch in found:
                examples_of(batch)
        except Exception as error:  # whatever a dataset or generator of the user's raises
            if is_ours(error):
                raise
            raise InputError(
                f"data: expected {FORMS}. Reading {type(self._parts[0]).__name__} failed: {error}"
            ) from error
        if not found:
            raise InputError(f"data: expected {FORMS}, at least one batch. Received: none")
        return found

    def _read(self) -> Iterator[Any]:
        data, *others = self._parts
        if isinstance(data, keras.utils.PyDataset) and others == [None, None]:
            # By its index: workers of its own would run on after the last batch that is needed.
            count = BATCHES if data.num_batches is None else min(BATCHES, data.num_batches)
            return (data[index] for index in range(count))
        batches = keras_private.numpy_batches(data, *others, size=BATCH_SIZE)
        return itertools.islice(batches, None if _has_length(data) else BATCHES)


def _has_length(data):
    """Whether data are arrays of a library, all of which are used."""
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data))
