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
# A column of such a name holds the images, or the labels. No other column is guessed to be labels:
# it may number the images, or count something else.
IMAGES = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "target", "targets", "category", "cls")


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
        InputError: the file cannot be read, it is not clear which columns to take, or they hold
            no images or no classes.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    about, kinds = _about(schema), {field.name: field.type for field in schema}
    image = image_key or _image(path, kinds)
    if image not in kinds or not _has_bytes(kinds[image]):
        raise _no_column(path, kinds, image, "bytes of images", "image")
    label = label_key or _label(path, kinds, [name for name in kinds if _names(about.get(name))])
    wanted = "whole numbers, or of text"
    if label not in kinds:
        raise _no_column(path, kinds, label, wanted, "label")
    if types.is_nested(kinds[label]):
        wanted = f"one label for each image. {brief(label)} can hold several"
        raise _no_column(path, kinds, label, wanted, "label")
    if not _can_be_labels(kinds[label]):
        raise _no_column(path, kinds, label, wanted, "label")
    names = _names(about.get(label))
    if not names and types.is_boolean(kinds[label]):
        names = ("false", "true")
    return Columns(image, label, names, rows)


def unreadable(path: pathlib.Path, error: Exception) -> InputError:
    """The InputError that a file cannot be read as Parquet."""
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(f"{path} cannot be read as a Parquet file: {reason}.")


def is_text(kind: pyarrow.DataType) -> bool:
    """Return whether the values of a type are text."""
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _has_bytes(kind):
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _has_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _can_be_labels(kind):
    """Whether a column of a type can hold classes; floats are checked to be whole when read."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_null, is_text)
    return any(check(kind) for check in checks)


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


def _image(path, kinds):
    """The column of a usual name, or the only one that holds bytes where none has such a name."""
    with_bytes = [name for name, kind in kinds.items() if _has_bytes(kind)]
    usual = [name for name in kinds if name.lower() in IMAGES]
    candidates = [name for name in usual if name in with_bytes] or usual or with_bytes
    if not candidates:
        raise _no_column(path, kinds, IMAGES[0], "bytes of images", "image")
    if len(candidates) > 1:
        raise _not_clear(path, candidates, "image")
    return candidates[0]


def _label(path, kinds, declared):
    """The column of a usual name, or the only one that the file itself declares to be classes."""
    candidates = [name for name in kinds if name.lower() in LABELS] or declared
    if not candidates:
        raise _no_column(path, kinds, LABELS[0], "whole numbers, or of text", "label")
    if len(candidates) > 1:
        raise _not_clear(path, candidates, "label")
    return candidates[0]


def _no_column(path, kinds, name, wanted, what):
    found = ", ".join(f"{brief(name)} ({brief(str(kind))})" for name, kind in kinds.items())
    return InputError(
        f"{path}: expected a column {name} of {wanted}. Found: {found or 'none'}. Name another by "
        f"--{what}_key."
    )


def _not_clear(path, candidates, what):
    return InputError(
        f"{path}: it is not clear which column holds the {what}s: {', '.join(candidates)}. Add "
        f"--{what}_key={candidates[0]}."
    )
