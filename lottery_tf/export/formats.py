"""The formats of an export, by name; a format is one function in one file and one line here.

This module imports no framework: a format can be checked before TensorFlow is loaded.
"""

import importlib.util
import pathlib
import pkgutil
from typing import Any

from lottery_tf.errors import InputError, not_installed
from lottery_tf.export.options import QUANTIZE, Options

# name: module:function of (model, an empty directory, Options), which writes the model there.
FORMATS = {
    "saved_model": "lottery_tf.export.saved_model:write",
    "keras": "lottery_tf.export.keras_file:write",
    "litert": "lottery_tf.export.lite:write",
    "npz": "lottery_tf.export.npz:write",
    "onnx": "lottery_tf.export.onnx_file:write",
}
# The packages without which a format cannot be written.
NEEDS = {"onnx": ("onnx", "tf2onnx", "onnxruntime")}
# What quantizes, and what stores zeros or leaves them out.
QUANTIZES = ("litert",)
STORES_SPARSELY = ("saved_model", "litert", "npz")


def check_available(name: str, options: Options) -> None:
    """Whether a format can be written with these options, before any work.

    Raises:
        InputError: there is no such format, it does not take an option, or a package is missing.
    """
    if name not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}. Received: {name}")
    if options.quantize not in QUANTIZE:
        expected = ", ".join(QUANTIZE)
        raise InputError(f"--quantize: expected one of {expected}. Received: {options.quantize}")
    if options.quantize != "none" and name not in QUANTIZES:
        raise InputError(
            f"--quantize={options.quantize} would do nothing with --format={name}: expected "
            f"--format={' or '.join(QUANTIZES)}."
        )
    if options.dense and name not in STORES_SPARSELY:
        raise InputError(
            f"--dense would do nothing with --format={name}: expected "
            f"--format={' or '.join(STORES_SPARSELY)}."
        )
    for package in NEEDS.get(name, ()):
        if importlib.util.find_spec(package) is None:
            raise not_installed(package, f"--format={name}")


def write(name: str, model: Any, directory: pathlib.Path, options: Options) -> None:
    """Writes a model in a format.

    Args:
        name: a key of FORMATS.
        model: a built plain Keras model, zeros where it is pruned.
        directory: an empty directory.
        options: Options.

    Raises:
        InputError: the format cannot hold this model with these options.
    """
    pkgutil.resolve_name(FORMATS[name])(model, directory, options)
