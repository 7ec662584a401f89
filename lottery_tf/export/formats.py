"""Lists the formats of an export and the options that each takes.

A format is one file with two functions, `write` and `load`, and one line in FORMATS. This module
imports no framework, so choices are checked before TensorFlow loads.
"""

import dataclasses
import datetime
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import shlex
import shutil
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lottery_tf.errors import InputError, not_installed
from lottery_tf.export.report import REPORT
from lottery_tf.plots import Row
from lottery_tf.pruning import Array

if TYPE_CHECKING:
    import keras

QUANTIZE = ("none", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Format:
    """The abilities of a format.

    Its module has two functions. `write(model, directory, options)` writes a plain Keras model,
    zeros where it is pruned, into an empty directory; it may return rows for the report, and raises
    InputError if the format, or its runtime, cannot hold that model. `load(directory)` returns a
    function {input: array} -> {output: array}, or a Keras model; it runs alone in a process that
    cannot import this package (see fresh.py).
    """

    module: str  # of this package
    runtime: str = ""  # the module that `load` takes the longest to import
    needs: tuple[str, ...] = ()  # packages, of the extra with the format's name
    keras_since: tuple[int, ...] = ()  # the first version that exports to it, if not the oldest
    quantizes: tuple[str, ...] = ()  # the types that --quantize can give its weights
    sparse: bool = False  # whether it leaves pruned weights out, unless --dense
    multiplies: bool = False  # whether its runtime has sparse products, for --sparse_matmul
    crops: bool = False  # whether it crops images of any size; otherwise it takes one size
    compiles: bool = False  # whether it needs a C compiler
    keras: bool = False  # whether it is the Keras model itself: without probabilities
    repository: bool = False  # whether --card makes it a directory of Hugging Face's hub

    def load_module(self) -> types.ModuleType:
        """Import the module that writes and loads the format."""
        return importlib.import_module(f"lottery_tf.export.{self.module}")


FORMATS = {
    "saved_model": Format("saved_model", "tensorflow", sparse=True, multiplies=True, crops=True),
    "keras": Format("keras_file", "keras", keras=True, repository=True),
    "litert": Format(
        "lite",
        "ai_edge_litert.interpreter",
        keras_since=(3, 13),
        sparse=True,
        quantizes=("float16", "int8"),
    ),
    "npz": Format("npz", "keras", sparse=True, keras=True),
    "onnx": Format("onnx_file", "onnxruntime", needs=("onnx", "tf2onnx", "onnxruntime")),
    "openvino": Format("openvino_file", "openvino", needs=("openvino",)),
    "c": Format("c_file", sparse=True, compiles=True, quantizes=("int8",)),
}


@dataclasses.dataclass(frozen=True)
class Choices:
    """The user's choices for an export."""

    format: str = "saved_model"  # a key of FORMATS
    compact: bool = False  # whether to remove units and channels that nothing depends on
    sparse_matmul: str = "off"  # "auto": dense layers as sparse products where those are faster
    quantize: str = "none"  # the type of stored weights; int8 is that of activations, too
    dense: bool = False  # whether to store every weight, also those that are pruned
    batch_size: int = 128  # examples that a sparse product is timed with
    card: bool = False  # whether to write a model card, and of keras a repository with the ticket
    date: str = ""  # of the export, "2026-11-30"; "": that of SOURCE_DATE_EPOCH, or today
    license: str = ""  # what the user says in the card
    intended_use: str = ""
    time: bool = True  # whether to time calls


@dataclasses.dataclass(frozen=True)
class Options:
    """What the `write` of a format gets besides the model."""

    quantize: str = "none"  # as in Choices
    dense: bool = False
    # The raw inputs to calibrate int8 on, {input: (examples, …)}.
    calibration: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    assets: Mapping[str, str] = dataclasses.field(default_factory=dict)  # {name of a file: text}
    images: bool = False  # whether the model is a run's: raw `images` in, logits out
    crop_to: int = 0  # the height and width that images of any size are cropped to
    repository: bool = False  # whether the directory is to be one of Hugging Face's hub
    date: str = dataclasses.field(default_factory=lambda: date_of(""))  # of the export
    normalisation: str = ""  # of the images, in words


def check(out: pathlib.Path, choices: Choices, *, overwrite: bool) -> None:
    """Check that an export can be written, before anything is loaded.

    Raises:
        InputError: a choice does nothing with the format, a package is missing, or the directory
            cannot be written.
    """
    check_choices(choices)
    if out.exists() and not overwrite:
        raise InputError(f"--out={out} exists. Name another directory, or add --overwrite.")
    if out.exists() and not (out / REPORT).exists():
        raise InputError(
            f"--out={out}: --overwrite replaces only an export, a directory with {REPORT}. Name "
            "another directory."
        )
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out={out}: cannot write into {parent}. Name another directory.")


def date_of(text: str) -> str:
    """Return a date as "2026-11-30": of "" that of SOURCE_DATE_EPOCH, or today's, in UTC.

    Raises:
        InputError: it is no date.
    """
    try:
        if text:
            return datetime.date.fromisoformat(text).isoformat()
        if seconds := os.environ.get("SOURCE_DATE_EPOCH"):
            return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime(
                "%Y-%m-%d"
            )
    except (ValueError, OverflowError, OSError):
        source = f"--date={text}" if text else f"SOURCE_DATE_EPOCH={seconds}"
        expected = "a date, as 2026-11-30" if text else "seconds since 1970"
        raise InputError(f"{source}: expected {expected}.") from None
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def check_choices(choices: Choices) -> None:
    """Raise InputError if a format does not take these choices, or lacks a package."""
    name, format = choices.format, FORMATS.get(choices.format)
    if format is None:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}. Received: {name}")
    if choices.quantize not in QUANTIZE:
        raise InputError(
            f"--quantize: expected one of {', '.join(QUANTIZE)}. Received: {choices.quantize}"
        )
    if choices.quantize not in ("none", *format.quantizes):
        able_ones = [other for other, of in FORMATS.items() if choices.quantize in of.quantizes]
        raise InputError(
            f"--quantize={choices.quantize} expects --format={' or '.join(able_ones)}. "
            f"Received: --format={name}"
        )
    for flag, is_set, able in (
        ("--dense", choices.dense, "sparse"),
        (f"--sparse_matmul={choices.sparse_matmul}", choices.sparse_matmul != "off", "multiplies"),
    ):
        if is_set and not getattr(format, able):
            others = " or ".join(other for other, of in FORMATS.items() if getattr(of, able))
            raise InputError(f"{flag} expects --format={others}. Received: --format={name}")
    date_of(choices.date)
    for package in format.needs:
        if importlib.util.find_spec(package) is None:
            raise not_installed(package, f"--format={name}")
    if format.compiles and shutil.which(compiler()[0]) is None:
        raise InputError(
            f"--format={name}: expected a C compiler, which tries what is written. Found no "
            f"{compiler()[0]}. Install one (apt install gcc libc6-dev), or name yours: CC=clang."
        )
    keras_version = importlib.metadata.version("keras")
    if tuple(map(int, keras_version.split(".")[:2])) < format.keras_since:
        needed = ".".join(map(str, format.keras_since))
        raise InputError(
            f"--format={name}: expected Keras {needed} or newer. Received: {keras_version}. "
            f"Install one (pip install 'keras>={needed}'), or use another format."
        )


def compiler() -> list[str]:
    """Return the command of the C compiler: $CC, or else cc."""
    return shlex.split(os.environ.get("CC") or "cc")


def write(name: str, model: "keras.Model", directory: pathlib.Path, options: Options) -> Row:
    """Write a built plain Keras model, functional or sequential, into an empty directory.

    Returns:
        Rows that the format adds to the report.

    Raises:
        InputError: the format cannot hold this model with these options.
    """
    if options.quantize == "int8" and not options.calibration:
        raise InputError("--quantize=int8 needs training inputs to calibrate on. Found none.")
    return FORMATS[name].load_module().write(model, directory, options) or {}
