"""Finished rounds of runs, as the tools take them. NumPy only."""

import concurrent.futures
import dataclasses
import os
import struct
import zipfile

import numpy as np

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.store import files
from lottery_tf.store.rundir import RunDir

# Flags that runs must have in common to be compared, or evaluated with one engine.
SAME = ("model", "dataset", "shortcut", "bn_affine", "image_size", "train_examples",
        "mixed_precision")  # fmt: skip
BN_STATS = ("recompute", "interpolate", "endpoint")
BN_STATS_HELP = (
    "BatchNorm's statistics at a point of a line: mean and variance over the first 10,000 training "
    "examples, unaugmented; those of the ends, interpolated; or those of the nearer end."
)


@dataclasses.dataclass(frozen=True)
class Network:
    """The network of a finished round, read in blocks.

    Args:
        run: path of the run.
        round: its number.
    """

    run: str
    round: int

    @property
    def name(self):
        """What messages call it."""
        return str(RunDir(self.run).round_path(self.round))

    def file(self, which):
        """The npz file of "masks", "initial" or "final"."""
        return RunDir(self.run).round_path(self.round) / f"{which}.npz"

    def final(self):
        """{variable path: array}: where the round ended.

        Raises:
            InputError: the file is missing or damaged, or a weight is not finite.
        """
        weights = RunDir(self.run).final(self.round)
        for path, array in weights.items():
            if not np.isfinite(array).all():
                raise not_finite(self, "final", path)
        return weights

    def masks(self):
        """{kernel path: bool array}: the masks that the round trained under."""
        return RunDir(self.run).masks(self.round)

    def names(self, which):
        """The paths of the variables in a file."""
        try:
            with zipfile.ZipFile(self.file(which)) as archive:
                return [name.removesuffix(".npy") for name in archive.namelist()]
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"Cannot read {self.file(which)}: {error}.") from None

    def shapes(self):
        """{kernel path: shape}."""
        names = self.names("masks")
        with zipfile.ZipFile(self.file("masks")) as archive:
            return {name: _header(archive, f"{name}.npy") for name in names}

    def blocks(self, which, path, size):
        """Yields the flat array of a variable in blocks; each takes the place of the last."""
        with zipfile.ZipFile(self.file(which)) as archive:
            member = archive.getinfo(f"{path}.npy")
        # Past zipfile, which would compute a checksum again: check_files did.
        with open(self.file(which), "rb") as file:
            file.seek(member.header_offset + 26)
            file.seek(sum(struct.unpack("<2H", file.read(4))), os.SEEK_CUR)  # name and extra
            shape, dtype = _read_header(file)
            left = int(np.prod(shape))
            buffer = np.empty(min(size, left), dtype)
            while left:
                block = buffer[:left]
                if file.readinto(block.view(np.uint8)) != block.nbytes:
                    raise InputError(f"{self.file(which)} is damaged: {path} ends too early.")
                yield block
                left -= block.size


def _header(archive, name):
    with archive.open(name) as file:
        return _read_header(file)[0]


def _read_header(file):
    """(shape, dtype) of an npy file that is open at its begin."""
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    assert not fortran, "Rounds are written in C order."
    return shape, dtype


def not_finite(network, which, path):
    """The InputError for a weight that is not finite."""
    return InputError(
        f"{network.file(which)} holds a weight of {path} that is not finite. Remove the round "
        "and all later ones to train them again."
    )


def bn_stats(run, chosen):
    """What --bn_stats means for the network of a run: "none" where it has no BatchNorm."""
    names = Network(str(run.path), 0).names("final")
    return chosen if any(name.endswith("/moving_variance") for name in names) else "none"


def check_files(networks):
    """Compares the files of the networks with their checksums, on all processors.

    Raises:
        InputError: a file is missing or damaged.
    """
    paths = [n.file(which) for n in networks for which in ("masks", "initial", "final")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(files.check, paths):
            pass


def open_runs(paths):
    """The RunDirs at some paths, each with a finished round at least.

    Raises:
        InputError: there is no run, it has no finished round, or they are of different models
            or datasets.
    """
    runs = [RunDir(os.path.normpath(os.path.abspath(path))) for path in paths]
    if not runs:
        raise InputError("--run_dir: expected one run or several, with commas. Received none.")
    for run in runs:
        run.config()  # says so if this is no run
        if not run.finished_rounds():
            raise InputError(f"{run.path} has no finished round.")
    check_same_experiment(runs)
    return runs


def check_same_experiment(runs):
    """Raises InputError if runs are of different models or datasets."""
    first = _flags(runs[0])
    for run in runs[1:]:
        for name, value in _flags(run).items():
            if value != first[name]:
                raise InputError(
                    f"Expected runs of one model and dataset. --{name} is {first[name]} in "
                    f"{runs[0].path}, {value} in {run.path}."
                )


def _flags(run):
    recorded = run.config()
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    return {name: recorded.get(name, defaults[name]) for name in SAME}


def chosen(run, at_rounds):
    """The rounds that --at_rounds names, checked; all finished ones if it names none."""
    finished = run.finished_rounds()
    try:
        rounds = [int(text) for text in at_rounds]
    except ValueError:
        raise InputError(
            f"--at_rounds: expected numbers with commas, as 0,5,10. Received: {','.join(at_rounds)}"
        ) from None
    for round in rounds:
        if not 0 <= round < finished:
            raise InputError(
                f"--at_rounds: {run.path} has no finished round {round}. Its finished rounds are 0 "
                f"to {finished - 1}."
            )
    return rounds or list(range(finished))
