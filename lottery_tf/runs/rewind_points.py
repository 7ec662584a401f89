"""Round 0 after some steps, stored while it trains. NumPy only.

runs/<run>/rewind_points/step_00000500/weights.npz   every variable but the masks
                                      /SHA256SUMS
"""

import pathlib
import shutil

from lottery_tf.pruning import Weights
from lottery_tf.runs import files

NAME = "rewind_points"


def read(path: pathlib.Path, step: int) -> Weights | None:
    """Return {variable path: array} of a rewind point of the run at `path`; None without.

    Raises:
        InputError: it is damaged.
    """
    if not exists(path, step):
        return None
    return files.parse_npz(files.read_checked(_directory(path, step) / "weights.npz"))


def exists(path: pathlib.Path, step: int) -> bool:
    """Return whether a run has the rewind point of a step of the schedule."""
    return _directory(path, step).exists()


def save(path: pathlib.Path, step: int, weights: Weights) -> None:
    """Store a rewind point, if it is not there.

    Raises:
        InputError: the directory cannot be written.
    """
    if not exists(path, step):
        (path / NAME).mkdir(exist_ok=True)
        files.write_directory(_directory(path, step), {"weights.npz": files.format_npz(weights)})


def steps(path: pathlib.Path) -> list[int]:
    """Return the steps of a run's rewind points."""
    found = (path / NAME).glob("step_*")
    return sorted(int(part.name.removeprefix("step_")) for part in found)


def forget(path: pathlib.Path, step: int | None = None) -> None:
    """Remove the rewind point of a step, or all: they are trained again."""
    shutil.rmtree(path / NAME if step is None else _directory(path, step), ignore_errors=True)


def _directory(path: pathlib.Path, step: int) -> pathlib.Path:
    return path / NAME / f"step_{step:08d}"
