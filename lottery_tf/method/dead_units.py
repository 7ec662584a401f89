"""What masks leave of each layer: weights, outputs, and whether it collapses. NumPy only."""

from collections.abc import Collection
from typing import Any

import numpy as np

from lottery_tf.method import Array, Masks
from lottery_tf.method.allocation import share


def count_alive(path: str, mask: Array, *, transposed: bool = False) -> dict[str, int]:
    """{remaining, outputs, dead_outputs, unused_inputs} of a kernel's mask.

    A dead output has no weight into it, an unused input none out of it. Kernels of dense and
    convolution layers are (…, inputs, outputs); of transposed convolutions (…, outputs, inputs);
    of depthwise ones (…, channels, multiplier), each of which is an output of one input.
    """
    alive = np.any(mask.reshape(-1, *mask.shape[-2:]), axis=0)  # (inputs, outputs)
    if transposed:
        alive = alive.T
    depthwise = "depthwise" in path.rpartition("/")[2]
    outputs_alive = alive if depthwise else alive.any(0)
    return {
        "remaining": int(mask.sum()),
        "outputs": outputs_alive.size,
        "dead_outputs": int((~outputs_alive).sum()),
        "unused_inputs": int((~alive.any(1)).sum()),
    }


def layers(masks: Masks, previous: Masks | None = None, *,
           transposed: Collection[str] = ()) -> list[dict[str, Any]]:  # fmt: skip
    """A row per layer: {layer, density, remaining, outputs, dead_outputs, unused_inputs, state}.

    The state is "collapsed" without a weight, "collapsing" with fewer weights than outputs after
    another pruning like the last one, else "".

    Args:
        masks: of a round.
        previous: those of the round before; None in round 0.
        transposed: the paths of the kernels of transposed convolutions.
    """
    rows = []
    for path, mask in masks.items():
        row: dict[str, Any] = {"layer": path, "density": float(mask.mean())}
        row |= count_alive(path, mask, transposed=path in transposed)
        before = int(previous[path].sum()) if previous else row["remaining"]
        next_remaining = row["remaining"] ** 2 / before if before else 0
        row["state"] = "collapsing" if next_remaining < row["outputs"] else ""
        if not row["remaining"]:
            row["state"] = "collapsed"
        rows.append(row)
    return rows


def died(masks: Masks, pruned: Masks) -> list[str]:
    """The paths of the kernels whose last weights a pruning of masks to `pruned` took."""
    return [path for path, mask in pruned.items() if masks[path].any() and not mask.any()]


def dying(masks: Masks, pruned: Masks) -> list[str]:
    """The paths of the kernels of which another pruning like the last one leaves nothing."""
    counts = {path: (int(masks[path].sum()), int(mask.sum())) for path, mask in pruned.items()}
    return [
        path
        for path, (before, left) in counts.items()
        if 0 < left < before and share(1 - left / before, left) == left
    ]
