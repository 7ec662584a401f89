"""Finished rounds, read in blocks. NumPy only."""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import struct
import zipfile
from collections.abc import Iterable, Iterator

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.runs import contents, files
from lottery_tf.runs.contents import check_layout, read_header, read_layout
from lottery_tf.runs.rundir import METRICS, RunDir

ARRAYS = ("masks", "initial", "final")


@dataclasses.dataclass(frozen=True)
class FinishedRound:
    """A finished round of the run at a path: its network before and after training."""

    run: pathlib.Path
    round: int

    @property
    def path(self) -> pathlib.Path:
        """Return the round's directory."""
        return RunDir(self.run).round_path(self.round)

    def file(self, which: str) -> pathlib.Path:
        """Return the npz file of "masks", "initial" or "final"."""
        return self.path / f"{which}.npz"

    def fingerprint(self) -> str:
        """Return a hexadecimal number that changes when the round is trained again."""
        path = self.path / files.SUMS
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from None

    def final(self) -> dict[str, np.ndarray]:
        """Return {variable path: array}: where the round ended.

        Raises:
            InputError: the file is missing or damaged, or a weight is not finite.
        """
        weights = RunDir(self.run).final(self.round)
        for path, array in weights.items():
            if not np.isfinite(array).all():
                raise self.not_finite("final", path)
        return weights

    def masks(self) -> dict[str, np.ndarray]:
        """Return {kernel path: bool array} that the round trained under."""
        return RunDir(self.run).masks(self.round)

    def shapes(self, which: str = "masks") -> dict[str, tuple[int, ...]]:
        """Return {variable path: shape} of a file."""
        return contents.shapes(self.file(which))

    def check_layout(self) -> None:
        """Raise InputError if its files do not hold masks, and weights of their shapes."""
        for which in ARRAYS:
            try:
                check_layout(read_layout(self.file(which)), self.file(which))
            except InputError as error:
                raise InputError(f"{self.file(which)} is no file of a round: {error}") from None

    def blocks(self, which: str, path: str, size: int) -> Iterator[Array]:
        """Yield the flat array of a variable in blocks; each takes the place of the last."""
        with zipfile.ZipFile(self.file(which)) as archive:
            member = archive.getinfo(f"{path}.npy")
        # Past zipfile, which would compute a checksum again: check_files did.
        with open(self.file(which), "rb") as file:
            file.seek(member.header_offset + 26)
            file.seek(sum(struct.unpack("<2H", file.read(4))), os.SEEK_CUR)  # name and extra
            shape, dtype = read_header(file)
            left = int(np.prod(shape))
            buffer = np.empty(min(size, left), dtype)
            while left:
                block = buffer[:left]
                if file.readinto(block.data.cast("B")) != block.nbytes:
                    raise InputError(f"{self.file(which)} is damaged: {path} ends too early.")
                yield block
                left -= block.size

    def not_finite(self, which: str, path: str) -> InputError:
        """Return the InputError for a weight that is not finite."""
        return InputError(
            f"{self.file(which)} holds a weight of {path} that is not finite. Remove the round "
            "and all later ones to train them again."
        )


def finished(run: RunDir) -> list[FinishedRound]:
    """Return the finished rounds of a run."""
    return [FinishedRound(run.path, round) for round in range(run.finished_rounds())]


def check_files(rounds: Iterable["FinishedRound"]) -> None:
    """Compare the files of rounds with their checksums, on all processors.

    Raises:
        InputError: a file is missing or damaged, is no file of a round, or has other kernels than
            that of the first; or a round is not of its run.
    """
    rounds = list(rounds)
    paths = [finished_round.file(which) for finished_round in rounds for which in ARRAYS]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(files.check, paths):
            pass
    for finished_round in rounds:
        finished_round.check_layout()
        if finished_round.shapes() != rounds[0].shapes():
            raise InputError(
                f"Expected rounds of the same kernels. {finished_round.path} has others than "
                f"{rounds[0].path}."
            )
    for run, numbers in _by_run(rounds).items():
        RunDir(run).check_rounds(numbers)


def damaged(rounds: Iterable["FinishedRound"]) -> list[str]:
    """Return what is wrong with the files of some rounds, in words; [] if nothing is.

    All but metrics.csv, which its reader checks, are compared with their checksums.
    """
    rounds = list(rounds)

    def damage(of: FinishedRound) -> str:
        try:
            for name in files.names(of.path):
                if name != METRICS:
                    files.check(of.path / name)
            of.check_layout()
        except InputError as error:
            again = f"remove {of.path} and all later rounds to train them again."
            return f"{error} Restore it, or {again}"
        return ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(damage, rounds))
    if not any(found):
        for run, numbers in _by_run(rounds).items():
            try:
                RunDir(run).check_rounds(numbers)
            except InputError as error:
                found.append(str(error))
    return [words for words in found if words]


def _by_run(rounds: Iterable[FinishedRound]) -> dict[pathlib.Path, list[int]]:
    """Return {run: numbers of its rounds, ascending}."""
    found: dict[pathlib.Path, set[int]] = {}
    for of in rounds:
        found.setdefault(of.run, set()).add(of.round)
    return {run: sorted(numbers) for run, numbers in found.items()}
