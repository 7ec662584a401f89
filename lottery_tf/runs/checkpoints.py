"""Checkpoints inside a training: the newest two, each a directory that is whole or not there.

runs/<run>/checkpoints/round_03_step_00001234/state.npz    all that the training holds
                                             /history.csv  a row per finished epoch
                                             /moment.csv   where it stands
                                             /SHA256SUMS
"""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array
from lottery_tf.runs import files

KEPT = 2
TEXTS = ("history.csv", "moment.csv")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is after a piece of an epoch.

    Args:
        step: steps done since the schedule's step 0.
        loss, accuracy: running means over the epoch.
        history: a row per finished epoch.
        seconds, train_seconds: what the epoch took so far, and its steps; 0 once its row is there.
    """

    step: int
    loss: float = 0.0
    accuracy: float = 0.0
    history: list[Row] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    train_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A training between two steps: `state` is {name: array} of all that it holds there."""

    progress: Progress
    state: dict[str, Array]

    def pack(self) -> dict:
        """Return dicts of arrays alone, as other workers are sent it."""
        texts = _format(self.progress).items()
        return {
            "texts": {name: np.frombuffer(text, np.uint8) for name, text in texts},
            "state": self.state,
        }

    @classmethod
    def unpack(cls, packed: dict) -> "Checkpoint | None":
        """Return the Checkpoint that `pack` was called on; None of an empty dict."""
        if not packed:
            return None
        texts = {name: array.tobytes() for name, array in packed["texts"].items()}
        return cls(_parse(texts), packed["state"])


def save(path: pathlib.Path, round: int, checkpoint: Checkpoint) -> None:
    """Save a checkpoint of a round in a run's directory, or a copy's; keep the newest KEPT alone.

    Raises:
        InputError: the directory cannot be written.
    """
    directory = path / "checkpoints"
    progress = checkpoint.progress
    contents = {"state.npz": files.format_npz(checkpoint.state), **_format(progress)}
    target = directory / f"round_{round:02d}_step_{progress.step:08d}"
    try:
        directory.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # a damaged one of this step
    except OSError as error:
        raise InputError(f"Cannot save {target}: {error.strerror}.") from None
    files.write_directory(target, contents)
    for old in _by_step(path, round)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def newest(path: pathlib.Path, round: int, report: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest good checkpoint of a round, if any; `report` a line on each damaged one."""
    for directory in reversed(_by_step(path, round)):
        try:
            progress = _parse({name: files.read_checked(directory / name) for name in TEXTS})
            state = files.parse_npz(files.read_checked(directory / "state.npz"))
        except InputError as error:
            report(f"Ignored a checkpoint: {error}")
        else:
            return Checkpoint(progress, state)
    return None


def forget(path: pathlib.Path) -> None:
    """Remove all checkpoints: their training is finished."""
    shutil.rmtree(path / "checkpoints", ignore_errors=True)


def _format(progress: Progress) -> dict[str, bytes]:
    """Return a Progress as {file name: bytes of CSV}."""
    row = dataclasses.asdict(progress)
    history = row.pop("history")
    return dict(zip(TEXTS, (files.format_csv(history), files.format_csv([row])), strict=True))


def _parse(texts: dict[str, bytes]) -> Progress:
    history, (row,) = (files.parse_csv(texts[name]) for name in TEXTS)
    return Progress(**row, history=history)


def _by_step(path: pathlib.Path, round: int) -> list[pathlib.Path]:
    """Return the checkpoints of a round, by step."""
    form = re.compile(rf"round_{round:02d}_step_\d+")
    return sorted(p for p in (path / "checkpoints").glob("round_*") if form.fullmatch(p.name))
