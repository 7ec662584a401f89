"""Which columns of a Parquet file hold the image and the label, by its schema."""

import dataclasses
import json
import pathlib

import pyarrow
import pyarrow.parquet
from pyarrow import types

from lottery_tf.datasets.json_files import brief
from lottery_tf.errors import InputError

METADATA = b"huggingface"  # JSON that says what the columns are


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a file.

    Args:
        image, label: their names.
        classes: the names of the labels; empty if the file has none.
        rows: of the file.
    """

    image: str
    label: str
    classes: tuple[str, ...]
    rows: int


def find(path: pathlib.Path, image_key: str | None, label_key: str | None) -> Columns:
    """The Columns of a Parquet file; its metadata alone are read.

    Args:
        image_key, label_key: their names; None where the file tells which it is.

    Raises:
        InputError: the file cannot be read, or it is not clear which columns to take.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    about = _about(schema)
    images = [field.name for field in schema if _has_bytes(field.type)]
    numbers = [field.name for field in schema if types.is_integer(field.type)]
    named = [name for name in numbers if _names(about.get(name))]
    image = _choose(path, schema, image_key, images, "image", "images")
    label = _choose(path, schema, label_key, numbers, "label", "labels", named)
    return Columns(image, label, _names(about.get(label)), rows)


def unreadable(path: pathlib.Path, error: Exception) -> InputError:
    """The InputError that a file cannot be read as Parquet."""
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(f"{path} cannot be read as a Parquet file: {reason}.")


def _has_bytes(kind):
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _has_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _about(schema):
    """{column: what the hub says of it}, as far as it makes sense."""
    try:
        found = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
        features = found["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _names(about):
    """The names of the classes of a column of labels, else ()."""
    names = about.get("names") if isinstance(about, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def _choose(path, schema, asked, candidates, usual, what, better=()):
    """The name of a column: the one that is asked for, of the usual name, or the only one."""
    found = ", ".join(f"{brief(field.name)} ({brief(str(field.type))})" for field in schema)
    kind = "bytes of images" if what == "images" else "whole numbers"
    if asked or not candidates:
        if asked in candidates:
            return asked
        raise InputError(
            f"{path}: expected a column {asked or usual} of {kind}. Found: {found or 'none'}. "
            f"Name another by --{usual}_key."
        )
    for some in (better, candidates):
        if usual in some or len(some) == 1:
            return usual if usual in some else some[0]
    raise InputError(
        f"{path}: it is not clear which column holds the {what}: {', '.join(candidates)}. Add "
        f"--{usual}_key={(better or candidates)[0]}."
    )
