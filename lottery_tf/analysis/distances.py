"""How far networks are from one another in weight space. NumPy only."""

import numpy as np


def angular(some, other, masks):
    """The angular distance of two networks, 2 angle / pi, on the weights alive in both.

    Maene et al. 2021, section 3: 0 for the same direction, 1 for orthogonal weights.

    Args:
        some, other: {variable path: array}.
        masks: the two networks' masks, {kernel path: bool array} each.

    Returns:
        A float in [0, 2]; NaN if one of them is zero there.
    """
    dot = norm = other_norm = 0.0
    for path in masks[0]:
        both = masks[0][path] & masks[1][path]
        one, two = some[path][both].astype(np.float64), other[path][both].astype(np.float64)
        dot, norm, other_norm = dot + one @ two, norm + one @ one, other_norm + two @ two
    if not norm or not other_norm:
        return float("nan")
    return float(2 / np.pi * np.arccos(np.clip(dot / np.sqrt(norm * other_norm), -1, 1)))


def to_earlier(run, backs=(1, 2)):
    """Rows of {round, density, test_accuracy, distance_1, distance_2}, for each round of a run.

    Args:
        run: RunDir.
        backs: how many rounds back to measure; the angular distance is NaN before there are.
    """
    rows, held = [], []
    for metrics in run.metrics():
        round = metrics["round"]
        held.append((run.final(round), run.masks(round)))
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        for back in backs:
            row[f"distance_{back}"] = float("nan")
            if back <= round:
                (one, mask), (two, other_mask) = held[-1], held[-1 - back]
                row[f"distance_{back}"] = angular(one, two, (mask, other_mask))
        held = held[-max(backs) - 1 :]
        rows.append(row)
    return rows
