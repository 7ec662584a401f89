"""How a ticket is to be written, checked before anything is loaded. No framework."""

import dataclasses
import os
import pathlib

from lottery_tf.errors import InputError
from lottery_tf.export import formats
from lottery_tf.export.options import Options
from lottery_tf.export.reports import REPORT


@dataclasses.dataclass(frozen=True)
class Choices:
    """How to write a ticket.

    Args:
        format: a key of formats.FORMATS.
        compact: whether to remove units and channels that nothing depends on.
        sparse_matmul: "off", or "auto": dense layers as sparse products where those are faster.
        quantize: "none", "float16" or "int8".
        dense: store every weight.
        batch_size: that a sparse product is measured with.
    """

    format: str = "saved_model"
    compact: bool = False
    sparse_matmul: str = "off"
    quantize: str = "none"
    dense: bool = False
    batch_size: int = 128


def check(out: pathlib.Path, choices: Choices, *, overwrite: bool) -> None:
    """Raises InputError for what cannot be written, before anything is loaded."""
    formats.check_available(choices.format, Options(quantize=choices.quantize, dense=choices.dense))
    if choices.sparse_matmul != "off" and choices.format != "saved_model":
        raise InputError(
            f"--sparse_matmul={choices.sparse_matmul} expects --format=saved_model. Received: "
            f"--format={choices.format}"
        )
    if out.exists() and not overwrite:
        raise InputError(f"--out={out} is there. Name another, or add --overwrite.")
    if out.exists() and not (out / REPORT).exists():
        raise InputError(f"--out={out} is no export, and is not overwritten. Name another.")
    if not os.access(_nearest(out.absolute().parent), os.W_OK | os.X_OK):
        raise InputError(f"--out={out}: cannot write there.")


def _nearest(path):
    """The path, or the first directory above it that is there."""
    return path if path.exists() else _nearest(path.parent)
