"""Checkpoints inside a round: the newest two, each a directory that is there whole or not at all.

runs/<run>/checkpoints/round_03_step_00001234/state.npz    all that the training holds
                                             /history.csv  a row per finished epoch
                                             /moment.csv   where it stands
                                             /SHA256SUMS
"""

import dataclasses
import re
import shutil

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.store import files
from lottery_tf.store.moment import Moment

KEPT = 2
TEXTS = ("history.csv", "moment.csv")


def save(run_path, round, moment, state):
    """Saves a training in the middle of a round, and forgets all but the newest KEPT.

    Args:
        run_path: the run directory.
        round: the round that is trained.
        moment: Moment.
        state: {name: array}.

    Raises:
        InputError: the directory cannot be written.
    """
    directory = run_path / "checkpoints"
    contents = {"state.npz": files.format_npz(state), **_format(moment)}
    path = directory / f"round_{round:02d}_step_{moment.step:08d}"
    try:
        directory.mkdir(exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)  # a damaged one of this step
    except OSError as error:
        raise InputError(f"Cannot save {path}: {error.strerror}.") from None
    files.write_directory(path, contents)
    for old in _found(run_path, round)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def pack(checkpoint):
    """(Moment, state), or None, as {name: array}: what the chief sends to the other workers."""
    if checkpoint is None:
        return {}
    moment, state = checkpoint
    texts = {name: np.frombuffer(text, np.uint8) for name, text in _format(moment).items()}
    return texts | {f"state/{name}": array for name, array in state.items()}


def unpack(packed):
    """What `pack` was given."""
    if not packed:
        return None
    moment = _parse({name: packed[name].tobytes() for name in TEXTS})
    return moment, {n.removeprefix("state/"): a for n, a in packed.items() if n not in TEXTS}


def newest(run_path, round, report):
    """(Moment, state) of the newest good checkpoint of a round; None without.

    Args:
        report: called with a line on each that is damaged.
    """
    for path in reversed(_found(run_path, round)):
        try:
            moment = _parse({name: files.read_checked(path / name) for name in TEXTS})
            state = files.parse_npz(files.read_checked(path / "state.npz"))
        except InputError as error:
            report(f"Ignored a checkpoint: {error}")
        else:
            return moment, state
    return None


def forget(run_path):
    """Removes all checkpoints: their round is finished."""
    shutil.rmtree(run_path / "checkpoints", ignore_errors=True)


def _format(moment):
    """A Moment as {file name: bytes of CSV}."""
    row = dataclasses.asdict(moment)
    history = row.pop("history")
    return dict(zip(TEXTS, (files.format_csv(history), files.format_csv([row])), strict=True))


def _parse(texts):
    history, (row,) = (files.parse_csv(texts[name]) for name in TEXTS)
    return Moment(**row, history=history)


def _found(run_path, round):
    """The checkpoints of a round, by step."""
    form = rf"round_{round:02d}_step_\d+"
    paths = (run_path / "checkpoints").glob("round_*")
    return sorted(path for path in paths if re.fullmatch(form, path.name))
