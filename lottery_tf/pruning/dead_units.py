"""What masks leave of each layer: weights, outputs, and whether it collapses. NumPy only."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from lottery_tf.pruning import Array, Masks
from lottery_tf.pruning.allocation import share

TRANSPOSED, DEPTHWISE = "transposed", "depthwise"


def count_alive(mask: Array, kind: str = "", *, gates: int = 1) -> dict[str, int]:
    """Return {remaining, outputs, dead_outputs, unused_inputs} of a kernel's mask.

    A dead output has no weight into it, an unused input none out of it. Kernels of dense and
    convolution layers are (…, inputs, outputs); tables of embeddings (tokens, outputs).

    Args:
        mask: bool, of rank 2 at least.
        kind: TRANSPOSED, of a transposed convolution, (…, outputs, inputs); DEPTHWISE, (…,
            channels, multiplier), each of which is an output of one input.
        gates: of a recurrent layer, (…, inputs, gates * outputs): an output is dead if there is
            no weight into any of its gates.
    """
    alive = np.any(mask.reshape(-1, *mask.shape[-2:]), axis=0)  # (inputs, outputs)
    if kind == TRANSPOSED:
        alive = alive.T
    alive = alive.reshape(len(alive), gates, -1).any(1)
    outputs_alive = alive if kind == DEPTHWISE else alive.any(0)
    return {
        "remaining": int(mask.sum()),
        "outputs": outputs_alive.size,
        "dead_outputs": int((~outputs_alive).sum()),
        "unused_inputs": int((~alive.any(1)).sum()),
    }


def kind_by_name(path: str) -> str:
    """DEPTHWISE, where the name of a kernel says so."""
    return DEPTHWISE if DEPTHWISE in path.rpartition("/")[2] else ""


def gates(path: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of gates in the columns of a kernel: 4 in an LSTM, 1 if not recurrent.

    Args:
        path: of the kernel.
        shapes: {path: shape} of the kernels beside it; that of the recurrent one tells.
    """
    layer, _, name = path.rpartition("/")
    recurrent = shapes.get(f"{layer}/recurrent_kernel")
    if recurrent is None or name not in ("kernel", "recurrent_kernel"):
        return 1
    return recurrent[-1] // recurrent[-2]


def layers(masks: Masks, previous: Masks | None = None, *,
           kinds: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, Any]]:  # fmt: skip
    """Return a row per layer.

    Its columns: layer, density, remaining, outputs, dead_outputs, unused_inputs, state.

    The state is "collapsed" without a weight, "collapsing" with fewer weights than outputs after
    another pruning like the last one, else "".

    Args:
        masks: of a round.
        previous: those of the round before; None in round 0.
        kinds: {path: TRANSPOSED or DEPTHWISE} of the kernels of such convolutions; those whose
            names say it need not be there.
    """
    rows = []
    shapes = {path: mask.shape for path, mask in masks.items()}
    for path, mask in masks.items():
        row: dict[str, Any] = {"layer": path, "density": float(mask.mean())}
        row |= count_alive(mask, kinds.get(path, kind_by_name(path)), gates=gates(path, shapes))
        before = int(previous[path].sum()) if previous else row["remaining"]
        next_remaining = row["remaining"] ** 2 / before if before else 0
        row["state"] = "collapsing" if next_remaining < row["outputs"] else ""
        if not row["remaining"]:
            row["state"] = "collapsed"
        rows.append(row)
    return rows


def died(masks: Masks, pruned: Masks) -> list[str]:
    """Return the paths of the kernels whose last weights a pruning of masks to `pruned` took."""
    return [path for path, mask in pruned.items() if masks[path].any() and not mask.any()]


def dying(masks: Masks, pruned: Masks) -> list[str]:
    """Return the paths of the kernels of which another pruning like the last one leaves nothing."""
    counts = {path: (int(masks[path].sum()), int(mask.sum())) for path, mask in pruned.items()}
    return [
        path
        for path, (before, left) in counts.items()
        if 0 < left < before and share(1 - left / before, left) == left
    ]
