"""Counts histograms of large arrays in blocks, so that no copy of them is held. NumPy only."""

import functools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

BLOCK = 1 << 20
Blocks = Callable[[], Iterable[np.ndarray]]  # gives the blocks of one array, from the first on


def masked_blocks(array: np.ndarray, mask: np.ndarray, size: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield the entries of an array where its mask is True, (some,) of at most `size` at a time."""
    array, mask = array.reshape(-1), mask.reshape(-1)
    for start in range(0, array.size, size):
        yield array[start : start + size][mask[start : start + size]]


def histogram(blocks: Blocks, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (counts (bins,), edges (bins + 1,)) from the least entry to the largest; () of none.

    There is one bin around the value where all entries are equal. `blocks` is called twice.
    """
    ends = [(block.min(), block.max()) for block in blocks() if block.size]
    if not ends:
        return np.zeros(0, int), np.zeros(1)
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    if low == high:
        bins, low, high = 1, low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    return count(blocks(), bins, (low, high)), edges


def describe(blocks: Blocks) -> dict[str, float]:
    """Return {size, mean_magnitude, deviation, largest} of all entries, in float64; zeros of none.

    `blocks` is called twice.
    """
    size, total, magnitude, largest = 0, 0.0, 0.0, 0.0
    for block in blocks():
        magnitudes = np.abs(block)
        size += block.size
        total += block.sum(dtype=np.float64)
        magnitude += magnitudes.sum(dtype=np.float64)
        largest = max(largest, magnitudes.max(initial=0))
    some = max(size, 1)
    squares = sum(float(np.square(block - total / some).sum()) for block in blocks())
    return {
        "size": size,
        "mean_magnitude": float(magnitude / some),
        "deviation": float(np.sqrt(squares / some)),
        "largest": float(largest),
    }


def count(blocks: Iterable[np.ndarray], bins: int, ends: tuple[float, float]) -> np.ndarray:
    """Count how many entries lie in each of the equal bins between two ends, (bins,)."""
    counts = (np.histogram(block, bins, ends)[0] for block in blocks)
    return functools.reduce(np.add, counts, np.zeros(bins, np.int64))
