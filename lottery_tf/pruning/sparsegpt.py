"""SparseGPT: prune a matrix, and let the weights that stay make up for those that go. NumPy only.

Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot".
"""

import numpy as np

from lottery_tf.pruning import Array
from lottery_tf.pruning.allocation import in_equal_parts
from lottery_tf.pruning.top_k import highest

BLOCK = 128  # inputs whose weights are chosen at once; B and B_s of Algorithm 1
DAMPING = 0.01  # part of the mean of the Hessian's diagonal that is added to it


def sparsegpt(
    weights: Array, mask: Array, gram: Array, left: int, pattern: tuple[int, int] | None = None
) -> tuple[Array, Array]:
    """Prune the product X W to `left` weights by Algorithm 1, in float64.

    The columns of the paper's W are the rows here, as Keras stores kernels. Each BLOCK of inputs
    keeps the same part of its weights, exact to one; what was pruned before stays so.

    Args:
        weights: (inputs, outputs).
        mask: bool (inputs, outputs), True where a weight lives.
        gram: X^T X, float64 (inputs, inputs), of the inputs X of a sample.
        left: weights that survive, without a pattern.
        pattern: (N, M): of every M inputs of an output N stay.

    Returns:
        (the new mask; the new weights, float64, zero where pruned).
    """
    weights, mask = np.where(mask, weights, 0).astype(np.float64), mask.copy()
    inverse = _factor_of_inverse(gram)
    # What an input does that is always zero shows nowhere: its weights go first.
    diagonal = np.where(gram.diagonal() == 0, np.inf, inverse.diagonal())[:, np.newaxis]
    size = BLOCK - BLOCK % pattern[1] if pattern else BLOCK
    starts = np.arange(0, len(weights), size)
    alive = np.add.reduceat(mask.sum(axis=1), starts)
    for start, count in zip(starts, in_equal_parts(alive, left), strict=True):
        block = slice(start, start + size)
        if pattern is None:
            scores = (weights[block] / diagonal[block]) ** 2
            mask[block][mask[block]] = highest(scores[mask[block]], int(count))
        errors = np.zeros_like(weights[block])
        for row in range(start, min(start + size, len(weights))):
            if pattern and row % pattern[1] == 0:
                group = slice(row, row + pattern[1])
                scores = (weights[group] / diagonal[group]) ** 2
                mask[group] &= _highest_of_columns(np.where(mask[group], scores, -1), pattern[0])
            error = np.where(mask[row], 0, weights[row]) / inverse[row, row]
            weights[row : start + size] -= np.outer(inverse[row, row : start + size], error)
            errors[row - start] = error
        weights[start + size :] -= inverse[block, start + size :].T @ errors
    return mask, np.where(mask, weights, 0)


def _highest_of_columns(scores: Array, count: int) -> Array:
    """Return a bool array, True at the `count` highest of each column; of equal ones, the last."""
    keep = np.zeros(scores.shape, bool)
    np.put_along_axis(keep, np.argsort(scores, axis=0, kind="stable")[-count:], True, axis=0)
    return keep


def _factor_of_inverse(gram: Array) -> Array:
    """Return the upper triangular U with U^T U = (X^T X + damping)^-1.

    An input that is always zero has no part in the product: its diagonal becomes 1.
    """
    hessian = gram.astype(np.float64)
    dead = np.flatnonzero(hessian.diagonal() == 0)
    hessian[dead, dead] = 1
    hessian += DAMPING * hessian.diagonal().mean() * np.eye(len(hessian))
    return np.linalg.cholesky(np.linalg.inv(hessian)).T
