"""The earlier optima that a round is repelled from, on the surviving weights. NumPy only.

Maene et al. 2021, section 3, call the memory that optima take a downside. Only the coordinates in
the current mask matter, so r optima take r * 0.8^r of the dense size: at most 1.64 times it.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.runs import other_runs
from lottery_tf.runs.rundir import RunDir

# {name in the packed form, which names the directories of copies on disk: field}.
PARTS = {"index": "index", "units": "directions", "norms": "norms", "importance": "importance"}


@dataclasses.dataclass(frozen=True)
class Optima:
    """k earlier optima, on the survivors of a mask alone: {kernel path: array} of each part."""

    index: dict[str, Array]  # int32 (survivors,), their places in the flat kernel
    directions: dict[str, Array]  # float32 (k, survivors), divided by their norm: see on_mask
    norms: dict[str, Array]  # (k,), what the optima were divided by
    names: tuple[str, ...]  # of each optimum, as "round 3" or "runs/other, round 3"
    importance: dict[str, Array]  # float32 (k, survivors) for a weighted cosine; {} without

    def bytes(self) -> tuple[int, int]:
        """Return (bytes of the values, bytes of the index)."""
        values = [*self.directions.values(), *self.importance.values()]
        return sum(a.nbytes for a in values), sum(a.nbytes for a in self.index.values())

    def pack(self) -> dict[str, Array]:
        """Return {name: array} of all of it, to send to other workers and to tell copies apart."""
        packed = {
            f"{part}:{path}": array
            for part, field in PARTS.items()
            for path, array in getattr(self, field).items()
        }
        return packed | {"names": np.array(self.names)}

    @classmethod
    def unpack(cls, packed: dict[str, Array]) -> "Optima | None":
        """Return the Optima that `pack` was called on; None of an empty dict."""
        if not packed:
            return None
        fields: dict[str, dict[str, Array]] = {field: {} for field in PARTS.values()}
        for name, array in packed.items():
            part, _, path = name.partition(":")
            if path:
                fields[PARTS[part]][path] = array
        return cls(**fields, names=tuple(packed["names"].tolist()))


def on_mask(
    sources: Iterable[tuple[str, Weights, Weights | None]], masks: Masks, *, scope: str
) -> Optima:
    """Return the Optima of some networks on a mask.

    Args:
        sources: (name, weights {path: array}, importance {kernel path: array} or None) of each;
            read one by one, so that memory holds one dense network at a time.
        masks: {kernel path: bool array}.
        scope: "global": unit vectors over all kernels; "layer": in each. An optimum that is zero on
            the mask stays zero.
    """
    index = {path: np.flatnonzero(mask).astype(np.int32) for path, mask in masks.items()}
    found: list[tuple[Any, ...]] = []  # (name, unit vectors, norms, importance)
    for name, weights, importance in sources:
        alive = {path: weights[path].ravel()[i].astype(np.float64) for path, i in index.items()}
        weighting = {p: importance[p].ravel()[i] for p, i in index.items()} if importance else {}
        squares = {path: np.sum(v**2 * weighting.get(path, 1)) for path, v in alive.items()}
        total = sum(squares.values())
        norms = {p: np.sqrt(total if scope == "global" else squares[p]) or 1.0 for p in alive}
        units = {path: (v / norms[path]).astype(np.float32) for path, v in alive.items()}
        found.append((name, units, norms, weighting))
    names, *parts = zip(*found, strict=True)
    directions, lengths, weightings = (
        {path: np.stack([arrays[path] for arrays in of_all]) for path in of_all[0]}
        for of_all in parts
    )
    return Optima(index, directions, lengths, names, weightings)


def repulsion_metrics(weights: Weights, optima: Optima, *, strength: float, scope: str) -> Row:
    """Return the columns of the history that describe the repulsion.

    They are repel_loss, J_r, and cosine_nearest and cosine_mean, the largest cosine to an optimum
    and the mean: of all surviving weights as one vector, without importance, whatever J_r weighs.
    """
    dots, squares, plain_dots, plain_squares, own_squares = [], [], [], [], 0.0
    for path, index in optima.index.items():
        alive, directions = weights[path].ravel()[index].astype(np.float64), optima.directions[path]
        importance, norms = optima.importance.get(path), optima.norms[path]
        weighted = directions if importance is None else directions * importance
        dots.append(weighted @ alive)
        squares.append(np.sum(alive**2) if importance is None else importance @ alive**2)
        plain_dots.append(norms * (directions @ alive))
        plain_squares.append(norms**2 * np.sum(directions.astype(np.float64) ** 2, 1))
        own_squares += np.sum(alive**2)
    parts = [(sum(dots), sum(squares))] if scope == "global" else zip(dots, squares, strict=True)
    loss = np.mean([np.mean(dot**2 / np.where(square > 0, square, 1)) for dot, square in parts])
    norms = np.sqrt(own_squares * sum(plain_squares))
    cosines = sum(plain_dots) / np.where(norms > 0, norms, 1)
    return {
        "repel_loss": float(strength * loss),
        "cosine_nearest": float(cosines.max()),
        "cosine_mean": float(cosines.mean()),
    }


def optima_of(config: Config, run: RunDir, round: int, masks: Masks) -> Optima | None:
    """Return the Optima that --repel_from and --repel_runs choose for a round; None if none.

    InputError if another run does not fit this network, or has lost rounds.
    """
    if not config.repel:
        return None
    counts = [(run, round)]
    counts += [(RunDir(path), other_runs.rounds_of(run, path)) for path in config.repel_runs]
    chosen = [
        (source, earlier)
        for source, count in counts
        for earlier in select_rounds(range(count), config.repel_from)
    ]
    if not chosen:
        return None
    weighted = config.repel_weighting == "saliency"

    def sources() -> Iterator[tuple[str, Weights, Weights | None]]:
        for source, earlier in chosen:
            weights = source.final(earlier)
            for path, mask in masks.items():
                found = str(weights[path].shape) if path in weights else "no such kernel"
                if found != str(mask.shape):
                    raise InputError(
                        f"{source.round_path(earlier)}: expected {path} of shape {mask.shape}. "
                        f"Found: {found}"
                    )
            name = f"round {earlier}" if source is run else f"{source.path}, round {earlier}"
            yield name, weights, source.squared_gradients(earlier) if weighted else None

    return on_mask(sources(), masks, scope=config.repel_scope)


def select_rounds(rounds: range, repel_from: str) -> range:
    """Return the rounds that --repel_from names: all, the previous one, or the last k."""
    count = {"all": len(rounds), "previous": 1}.get(repel_from)
    count = int(repel_from) if count is None else count
    return rounds[max(0, len(rounds) - count) :]


def compare_with_optima(weights: Weights, optima: Optima) -> list[Row]:
    """Compare a trained network with each optimum, kernel by kernel: the rows of a CSV.

    They are {optimum, kernel, cosine, sign_agreement, norm_share, norm_share_then} over the
    surviving weights of each kernel, and over those of all kernels ("all"); norm_share is the
    kernel's part of the squared norm, now and at the optimum.
    """
    rows = []
    for k, name in enumerate(optima.names):
        pairs = {
            path: (
                weights[path].ravel()[index].astype(np.float64),
                optima.norms[path][k] * optima.directions[path][k].astype(np.float64),
            )
            for path, index in optima.index.items()
        }
        now, then = (np.concatenate(side) for side in zip(*pairs.values(), strict=True))
        pairs["all"] = now, then
        whole = [now @ now or 1.0, then @ then or 1.0]
        for path, (now, then) in pairs.items():
            agreement = np.mean(np.sign(now) == np.sign(then)) if now.size else np.nan
            rows.append(
                {
                    "optimum": name,
                    "kernel": path,
                    "cosine": now @ then / (np.sqrt((now @ now) * (then @ then)) or 1.0),
                    "sign_agreement": agreement,
                    "norm_share": now @ now / whole[0],
                    "norm_share_then": then @ then / whole[1],
                }
            )
    return rows
