"""The masks of a round that is pruned before it trains, until the round is finished. NumPy only.

runs/<run>/decided_masks/round_03/masks.npz   {kernel path: bool array}
                                 /SHA256SUMS
"""

import pathlib
import shutil

from lottery_tf.errors import InputError
from lottery_tf.pruning import Masks
from lottery_tf.runs import contents, files

NAME = "decided_masks"


def read(path: pathlib.Path, round: int, masks: Masks) -> Masks | None:
    """Return the masks that were decided for a round, by pruning `masks`; None without.

    Raises:
        InputError: they are damaged, or do not lie in `masks`.
    """
    directory = _directory(path, round)
    if not directory.exists():
        return None
    file = directory / contents.MASKS
    try:
        found = contents.parse_arrays(files.read_checked(file), file)
        if {p: m.shape for p, m in found.items()} != {p: m.shape for p, m in masks.items()}:
            raise InputError("expected masks of the kernels of this network.")
        contents.check_nested(found, masks, "those that were pruned")
    except InputError as error:
        raise InputError(
            f"{file} does not hold the masks of round {round}: {error} Restore it, or remove "
            f"{directory} and {path / 'checkpoints'} to begin the round again."
        ) from None
    return {p: found[p] for p in masks}


def save(path: pathlib.Path, round: int, masks: Masks) -> None:
    """Save the masks of a round of the run at `path`, whole or not at all.

    Raises:
        InputError: the directory cannot be written.
    """
    try:
        (path / NAME).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot save {path / NAME}: {error.strerror}.") from None
    files.write_directory(_directory(path, round), {contents.MASKS: files.format_npz(masks)})


def forget(path: pathlib.Path) -> None:
    """Remove all of them: their round is finished, and holds its masks itself."""
    shutil.rmtree(path / NAME, ignore_errors=True)


def _directory(path: pathlib.Path, round: int) -> pathlib.Path:
    return path / NAME / f"round_{round:02d}"
