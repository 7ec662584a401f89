"""What the files of a round must hold, whatever their checksums say. NumPy and stdlib only."""

import pathlib
import zipfile
from collections.abc import Mapping
from math import nan
from typing import Any, BinaryIO

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Masks, Weights
from lottery_tf.runs import files

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]  # {variable path: (shape, dtype)}
MASKS = "masks.npz"
NEXT_MASKS = "next_masks.npy"
# {path in a run directory, with {words} for what varies: what it holds}, for
# docs/reference/outputs.md.
FILES = {
    "config.json": "every flag except --run_dir",
    "flags.cfg": "the same as a flag file: --flagfile= of it repeats the run",
    "data.json": "examples, bytes and SHA-256 of each split; the run accepts no other data",
    "environment.json": "versions, and environment variables that change numbers",
    "metrics.csv": "one row for each finished round",
    "log.txt": "starts and stops, machine, versions, changed flags, collapses",
    "repel_runs.json": "with --repel_runs: how many rounds those runs had at the start",
    "streams.json": "with --criterion=random: the random stream of the scores",
    ".lock": "the process that holds the run",
    "round_{NN}/masks.npz": "{kernel path: bool}: the masks that the round trained under",
    "round_{NN}/initial.npz": "{variable path: float32}: the weights before training",
    "round_{NN}/final.npz": "{variable path: float32}: the trained weights, 0 where masked",
    "round_{NN}/next_masks.npy": "the masks of the next round: np.packbits of all kernels, in the "
    "order of masks.npz",
    "round_{NN}/history.csv": "one row for each epoch",
    "round_{NN}/metrics.csv": "the round's row of metrics.csv",
    "round_{NN}/repulsion.csv": "with --repel: comparison with each earlier optimum, by kernel",
    "round_{NN}/saliency.npz": "with --repel_weighting=saliency: squared gradients",
    "round_{NN}/SHA256SUMS": "checksums, verified at each read; sha256sum -c accepts them",
    "decided_masks/round_{NN}/masks.npz": "during a round that is pruned before it trains",
    "checkpoints/round_{NN}_step_{step}/": "the newest two within a round: state.npz, history.csv, "
    "moment.csv, SHA256SUMS",
    "backups/round_{NN}/fit_{n}/epoch_{epoch}/": "with `rounds`: the state of a fit after an epoch",
    "rewind_points/step_{step}/weights.npz": "round 0 at that step",
    "rewind_points/step_{step}/SHA256SUMS": "its checksum",
    "copies/{name}/source.txt": "what a retraining of a tool started from",
    "copies/{name}/trained/final.npz": "its trained weights",
    "copies/{name}/trained/history.csv": "one row for each epoch",
    "copies/{name}/trained/SHA256SUMS": "its checksums",
    "tensorboard/events.{…}": "curves by round, histograms, results of tools",
    "tensorboard/epochs/events.{…}": "curves by epoch",
    "analysis/{tool}{…}.csv": "tables of tools",
    "analysis/{tool}{…}.png": "pictures of tools; with --pdf also PDF",
    "analysis/{tool}.cache.json": "what a tool computed, to reuse",
    "analysis/report.html": "the page of tools.report",
    "analysis/benchmark_{what}.csv": "the values of tools.benchmark",
}
STUDY_FILES = {  # in the directory of a study's runs
    "{run}/": "a run, as above",
    "{run}.log": "what the run printed",
    "results.csv": "a row for each run and round: the flags that differ, and the columns of "
    "metrics.csv",
    "report.html": "the page of tools.report --runs",
    "tensorboard/events.{…}": "TensorBoard's page HParams",
    "figures/{study}.csv": "what tools.figures draws the means of: a row of each seed",
    "figures/{study}.png": "the figure",
    "figures/{study}.pdf": "the same as PDF",
    "figures/tensorboard/events.{…}": "the same on TensorBoard",
}
NUMBERS = ("density", "threshold", "test_accuracy")  # of metrics.csv, which everything shows


def parse_arrays(content: bytes, path: pathlib.Path) -> Weights:
    """Return {variable path: array} of the bytes of a round's npz file, which `path` names.

    Raises:
        InputError: it holds no arrays, or not those that `check_layout` expects.
    """
    arrays = files.parse_npz(content)
    check_layout({name: (array.shape, array.dtype) for name, array in arrays.items()}, path)
    return arrays


def format_next_masks(masks: Masks, next_masks: Masks) -> bytes:
    """Return the masks that a round's pruning decided as the bytes of its next_masks.npy.

    They are one bit per weight, as np.packbits writes them, of all kernels in the order of `masks`,
    those of the round.
    """
    return files.format_npy(np.packbits(np.concatenate([next_masks[p].ravel() for p in masks])))


def parse_next_masks(content: bytes, masks: Masks) -> Masks:
    """Return the masks that `format_next_masks` was given.

    Raises:
        InputError: the bytes are no such file, or the masks do not lie in those of the round.
    """
    bits = files.parse_npy(content)
    ends = np.cumsum([mask.size for mask in masks.values()])
    if bits.dtype != np.uint8 or bits.shape != (-(-ends[-1] // 8),):
        raise InputError(
            f"expected the bits of {ends[-1]} weights. Received: {bits.dtype} {bits.shape}."
        )
    parts = np.split(np.unpackbits(bits, count=ends[-1]).astype(bool), ends[:-1])
    found = {p: part.reshape(masks[p].shape) for p, part in zip(masks, parts, strict=True)}
    check_nested(found, masks, "those of the round")
    return found


def check_nested(inner: Masks, outer: Masks, called: str) -> None:
    """Raise InputError if masks revive a weight that others, `called` so, have pruned."""
    if path := revived(inner, outer):
        raise InputError(f"expected masks that lie in {called}; in {path} they do not.")


def revived(inner: Masks, outer: Masks) -> str | None:
    """Return the first path under which masks have a weight that others have pruned, if any."""
    return next((path for path, mask in inner.items() if (mask & ~outer[path]).any()), None)


def check_layout(found: Layout, path: pathlib.Path) -> None:
    """Raise InputError if a round's npz file does not hold masks, or weights of their shapes."""
    if path.name == MASKS:
        if not found or any(dtype.kind != "b" for _, dtype in found.values()):
            raise InputError("expected masks, of type bool.")
        return
    for name, (_, dtype) in found.items():
        if dtype.kind != "f":
            raise InputError(f"expected {name} in floating point. Received: {dtype}.")
    for name, (shape, _) in read_layout(path.with_name(MASKS)).items():
        has = found[name][0] if name in found else "none"
        if has != shape:
            raise InputError(f"expected {name} of shape {shape}, as its mask. Received: {has}.")


def read_layout(path: pathlib.Path) -> Layout:
    """Return the Layout of an npz file, from its headers alone.

    Raises:
        InputError: it is not there, or no npz file.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    found[name.removesuffix(".npy")] = read_header(file)
    except InputError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds
        raise InputError(f"Cannot read {path}: {error}.") from error
    return {n: of for n, of in found.items() if not files.is_left_over(n, *of)}


def shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Return {variable path: shape} of an npz file, from its headers alone."""
    return {name: shape for name, (shape, _) in read_layout(path).items()}


def read_header(file: BinaryIO | Any) -> tuple[tuple[int, ...], np.dtype]:
    """Return (shape, dtype) of an npy file that is open at its beginning."""
    major, _ = np.lib.format.read_magic(file)
    of_version = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    if major not in of_version:
        raise InputError(f"{file.name} is of version {major} of the npy format: expected 1 or 2.")
    shape, fortran, dtype = of_version[major](file)
    if fortran:
        raise InputError(
            f"{file.name} holds an array in Fortran order; rounds are written in C order. Save it "
            "again with numpy.ascontiguousarray."
        )
    return shape, dtype


def parse_metrics(content: bytes, round: int) -> Row:
    """Return the only row of a round's metrics.csv.

    Raises:
        InputError: it is none, or of another round, or what is shown everywhere is no number.
    """
    row, *more = files.parse_csv(content) or [{}]
    if more or row.get("round") != round:
        raise InputError(f"expected one row, of round {round}.")
    for name in NUMBERS:
        if isinstance(row.get(name), str):
            raise InputError(f"expected a number as {name}. Received: {row[name]:.60}")
    if not 0 <= row.get("density", nan) <= 1:
        raise InputError(f"expected a density in 0 to 1. Received: {row.get('density')}.")
    return row
