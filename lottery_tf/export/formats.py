"""The formats of an export, and the options that each of them takes.

A format is one file with two functions, `write` and `load`, and one line in FORMATS. This module
imports no framework: choices are checked before TensorFlow is loaded.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lottery_tf.errors import InputError, not_installed
from lottery_tf.export.report import REPORT
from lottery_tf.pruning import Array

if TYPE_CHECKING:
    import keras

QUANTIZE = ("none", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Format:
    """What a format can do.

    Args:
        module: of this package. Its `write(model, directory, options)` writes a plain Keras model,
            zeros where it is pruned, into an empty directory. Its `load(directory)` returns a
            function {input: array} -> {output: array}, or a Keras model; it runs alone in a
            process that cannot import this package (see fresh.py).
        needs: the packages, of the extra with the format's name, that it cannot do without.
        keras_since: the first version of Keras that exports to it, where the oldest does not.
        quantizes: whether --quantize changes the type of its weights.
        sparse: whether it leaves pruned weights out, unless --dense.
        crops: whether it crops images of any size; otherwise it takes images of one size.
        keras: whether it is the Keras model itself: a run's network gives no probabilities then.
    """

    module: str
    needs: tuple[str, ...] = ()
    keras_since: tuple[int, ...] = ()
    quantizes: bool = False
    sparse: bool = False
    crops: bool = False
    keras: bool = False

    def load_module(self) -> types.ModuleType:
        """Import the module that writes and loads the format."""
        return importlib.import_module(f"lottery_tf.export.{self.module}")


FORMATS = {
    "saved_model": Format("saved_model", sparse=True, crops=True),
    "keras": Format("keras_file", keras=True),
    "litert": Format("lite", keras_since=(3, 13), sparse=True, quantizes=True),
    "npz": Format("npz", sparse=True, keras=True),
    "onnx": Format("onnx_file", needs=("onnx", "tf2onnx", "onnxruntime")),
}
SPARSE_MATMUL = ["saved_model"]  # the formats whose runtime has sparse products


@dataclasses.dataclass(frozen=True)
class Choices:
    """How a user wants a ticket to be written.

    Args:
        format: a key of FORMATS.
        compact: whether to remove units and channels that nothing depends on.
        sparse_matmul: "off", or "auto": dense layers as sparse products where those are faster.
        quantize: one of QUANTIZE: the type of stored weights; int8 is that of activations, too.
        dense: whether to store every weight, also those that are pruned.
        batch_size: the number of examples that a sparse product is timed with.
    """

    format: str = "saved_model"
    compact: bool = False
    sparse_matmul: str = "off"
    quantize: str = "none"
    dense: bool = False
    batch_size: int = 128


@dataclasses.dataclass(frozen=True)
class Options:
    """What the `write` of a format gets beside the model.

    Args:
        quantize, dense: as in Choices.
        calibration: the raw inputs to calibrate int8 on, {input: (examples, …)}; empty if none.
        assets: {file name: text} to go with the model.
        images: whether the model takes raw `images` and gives logits, as a run's network does.
        crop_to: the height and width that images of any size are cropped to; 0 if they have one.
    """

    quantize: str = "none"
    dense: bool = False
    calibration: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    assets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    images: bool = False
    crop_to: int = 0


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


def check_choices(choices: Choices) -> None:
    """Check that a format takes these choices and that its packages are installed.

    Raises:
        InputError: there is no such format, it does not take an option, or a package is missing
            or too old.
    """
    name, format = choices.format, FORMATS.get(choices.format)
    if format is None:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}. Received: {name}")
    if choices.quantize not in QUANTIZE:
        raise InputError(
            f"--quantize: expected one of {', '.join(QUANTIZE)}. Received: {choices.quantize}"
        )
    quantizing = [other for other, of in FORMATS.items() if of.quantizes]
    sparse = [other for other, of in FORMATS.items() if of.sparse]
    for flag, is_set, able in (
        (f"--quantize={choices.quantize}", choices.quantize != "none", quantizing),
        ("--dense", choices.dense, sparse),
        (f"--sparse_matmul={choices.sparse_matmul}", choices.sparse_matmul != "off", SPARSE_MATMUL),
    ):
        if is_set and name not in able:
            raise InputError(
                f"{flag} expects --format={' or '.join(able)}. Received: --format={name}"
            )
    for package in format.needs:
        if importlib.util.find_spec(package) is None:
            raise not_installed(package, f"--format={name}")
    keras_version = importlib.metadata.version("keras")
    if tuple(map(int, keras_version.split(".")[:2])) < format.keras_since:
        needed = ".".join(map(str, format.keras_since))
        raise InputError(
            f"--format={name}: expected Keras {needed} or newer. Received: {keras_version}. "
            f"Install one (pip install 'keras>={needed}'), or use another format."
        )


def write(name: str, model: "keras.Model", directory: pathlib.Path, options: Options) -> None:
    """Write a built plain Keras model, zeros where it is pruned, in a format.

    Args:
        name: a key of FORMATS.
        model: a functional or sequential model.
        directory: an empty directory.
        options: Options; their assets are written beside the model.

    Raises:
        InputError: the format cannot hold this model with these options.
    """
    FORMATS[name].load_module().write(model, directory, options)
