"""Reads encoded images and labels from Parquet files, as the Hugging Face hub has them."""

import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import pyarrow
import pyarrow.parquet
from pyarrow import types

from lottery_tf.datasets import image_files
from lottery_tf.datasets.folders import is_hidden
from lottery_tf.datasets.labels import (
    KNOWN,
    Classes,
    check_classes,
    number_classes,
    text_classes,
)
from lottery_tf.datasets.names import SPLITS, brief, check_split, split_of
from lottery_tf.datasets.raw import Sources
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

# train.parquet, train-00000-of-00002.parquet, train_1.parquet; or the folder train of 0000.parquet
SPLIT = re.compile(rf"({'|'.join(itertools.chain(*SPLITS.values()))})(?![a-z])", re.IGNORECASE)
OTHER = re.compile(r"(\w+)-\d+-of-\d+")
NO_LABEL = -1  # of a split whose labels are not published
ROWS = 64  # of images in memory at a time
METADATA = b"huggingface"  # JSON that says what the columns are
# A column of such a name holds the images, or the labels. No other column is guessed to be labels:
# it may number the images, or count something else.
IMAGES = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "target", "targets", "category", "cls")


@dataclasses.dataclass(frozen=True)
class File:
    """A Parquet file, the names of its columns, and its labels."""

    path: pathlib.Path
    image: str
    label: str
    classes: tuple[str, ...]  # the names of the labels; empty if the file has none
    labels: Array  # int64 (rows,), or of text object (rows,); without any, each is NO_LABEL


Files = dict[str, list[File]]  # by split


def read(
    path: pathlib.Path,
    *,
    known: str | None,
    small: int,
    reading: image_files.Reading,
    image_key: str | None,
    label_key: str | None,
) -> Sources:
    """Read the splits in a Parquet file, in several with commas, or in those of a directory.

    Args:
        path: files and folders that are named after a split; one file alone may have any name.
        known: a dataset whose classes have known names.
        small: decode images that all have one size, of at most so many pixels a side.
        reading: how to read the images.
        image_key, label_key: the columns, or None where it is clear which.

    Raises:
        InputError: a file is missing, damaged or has no such columns, a label is out of range, or
            an image is unreadable; names the row.
    """
    files: Files = {}
    for split, paths in _splits(path).items():
        found = [_file(place, image_key, label_key) for place in paths]
        files[split] = [file for file in found if len(file.labels)]
        if not files[split]:
            raise InputError(f"{path}: its {split} split has no rows.")
        if all((file.labels == NO_LABEL).all() for file in files[split]):
            console.say(
                f"{path}: left out the {split} split, which has no labels (all are null, or -1)."
            )
            del files[split]
    if "train" not in files:
        raise InputError(f"{path}: expected labels in its train split. Found: all are null, or -1.")
    names, labels = _classes(path, files, known)
    listings = {split: _listing(path, files[split], labels[split], names) for split in files}
    return image_files.sources(listings, names, reading, small=small, keep_gray=True)


def _listing(
    place: pathlib.Path, files: list[File], labels: Array, classes: tuple[str, ...]
) -> image_files.Listing:
    """Return the images of a split; its files lie in `place`, and have labels one after another."""
    rows = [f"{file.path.name}, row {row}" for file in files for row in range(len(file.labels))]

    def contents() -> Iterator[tuple[str, bytes | None]]:
        names = iter(rows)
        for each in files:
            with _opened(each.path) as file:
                for batch in file.iter_batches(ROWS, columns=[each.image]):
                    for value in batch.column(0).to_pylist():
                        yield next(names), value.get("bytes") if isinstance(value, dict) else value

    class_of = (classes[label] for label in labels)
    return image_files.Listing(place, dict(zip(rows, class_of, strict=True)), contents)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a Parquet file; what is wrong with it becomes an InputError that names it."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path} cannot be read as a Parquet file: {reason}.") from None


def _splits(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return {split: its files}, train first."""
    paths = _paths(path)
    splits = collections.defaultdict(list)
    for file in paths:
        named = OTHER.match(file.stem) or SPLIT.match(file.stem)
        if len(paths) > 1:
            named = named or SPLIT.fullmatch(file.parent.name)
            if not named:
                raise InputError(
                    f"{file}: expected the name of its split first, as test.parquet or "
                    "train-00000-of-00001.parquet. Rename it, or name the files to read by "
                    "--raw_dir, with commas."
                )
        splits[check_split(str(file), split_of(named[1])) if named else "train"].append(file)
    for split, of_split in splits.items():
        if len({file.parent for file in of_split}) > 1:
            raise InputError(
                f"{path} has files of the {split} split in several directories: "
                f"{of_split[0].parent}, {of_split[-1].parent}. Name one dataset by --raw_dir."
            )
    if "train" not in splits:
        raise InputError(
            f"{path}: expected a train split, as train-00000-of-00001.parquet. Found: "
            f"{', '.join(splits)}"
        )
    return dict(sorted(splits.items(), key=lambda item: item[0] != "train"))


def _paths(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that --raw_dir names."""
    listed = [path]
    if not path.exists():
        listed = [pathlib.Path(name).expanduser() for name in str(path).split(",")]
    paths: list[pathlib.Path] = []
    for place in listed:
        if not place.exists():
            raise InputError(
                f"--raw_dir={place} does not exist: expected a Parquet file, or a directory of "
                "them."
            )
        found = [place]
        if place.is_dir():  # without what the system or the hub's client keeps beside the files
            inside = sorted(place.rglob("*.parquet"))
            found = [file for file in inside if not is_hidden(str(file.relative_to(place)))]
        if not found:
            raise InputError(f"{place}: expected files that end in .parquet. Found none.")
        paths += found
    if len(set(paths)) < len(paths):
        raise InputError(f"--raw_dir={path}: expected each file once.")
    return paths


def _file(path: pathlib.Path, image_key: str | None, label_key: str | None) -> File:
    """Return the columns and the labels of a Parquet file; no images are read.

    Raises:
        InputError: the file cannot be read, it is not clear which columns to take, or they hold
            no images or no classes.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    kinds = {field.name: field.type for field in schema}
    declared = _declared_classes(schema)

    usual = [name for name in kinds if name.lower() in IMAGES]
    with_bytes = [name for name, kind in kinds.items() if _has_bytes(kind)]
    of_both = [name for name in usual if name in with_bytes]
    image = image_key or _only(path, kinds, of_both or usual or with_bytes, IMAGES[0])
    if image not in kinds or not _has_bytes(kinds[image]):
        raise _no_column(path, kinds, image, "image")

    usual = [name for name in kinds if name.lower() in LABELS]
    label = label_key or _only(
        path, kinds, usual or [name for name in kinds if name in declared], LABELS[0]
    )
    if label not in kinds or not _can_be_labels(kinds[label]):
        raise _no_column(path, kinds, label, "label")
    names = declared.get(label, ())
    if not names and types.is_boolean(kinds[label]):
        names = ("false", "true")
    with _opened(path) as file:
        column = file.read([label]).column(0)
    return File(path, image, label, names, _labels(path, column))


def _declared_classes(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """Return {column of labels: the names of its classes}, as far as the file declares them."""
    try:
        features = json.loads((schema.metadata or {}).get(METADATA, b"{}"))["info"]["features"]
        columns = [(key, about) for key, about in features.items() if isinstance(about, dict)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    found = {column: about.get("names") for column, about in columns}
    return {
        column: tuple(names)
        for column, names in found.items()
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    }


def _has_bytes(kind: pyarrow.DataType) -> bool:
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _has_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _can_be_labels(kind: pyarrow.DataType) -> bool:
    """Return whether a column can hold classes; floats are checked to be whole when read."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_null, _is_text)
    return any(check(kind) for check in checks)


def _is_text(kind: pyarrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _only(
    path: pathlib.Path, kinds: dict[str, pyarrow.DataType], candidates: list[str], usual: str
) -> str:
    """Return the only candidate for a column; `usual` is its kind and its most usual name."""
    if not candidates:
        raise _no_column(path, kinds, usual, usual)
    if len(candidates) > 1:
        raise InputError(
            f"{path}: it is not clear which column holds the {usual}s: {', '.join(candidates)}. "
            f"Add --{usual}_key={candidates[0]}."
        )
    return candidates[0]


def _no_column(
    path: pathlib.Path, kinds: dict[str, pyarrow.DataType], name: str, what: str
) -> InputError:
    wanted = {"image": "bytes of images", "label": "whole numbers, or of text"}[what]
    if what == "label" and name in kinds and types.is_nested(kinds[name]):
        wanted = f"one label for each image. {brief(name)} can hold several"
    found = ", ".join(f"{brief(name)} ({brief(str(kind))})" for name, kind in kinds.items())
    return InputError(
        f"{path}: expected a column {name} of {wanted}. Found: {found or 'none'}. Name another by "
        f"--{what}_key."
    )


def _labels(path: pathlib.Path, column: pyarrow.ChunkedArray) -> Array:
    """Return the labels of a file, as File has them."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # Whether each row has no label: null or, of numbers, NaN.
    without = np.flatnonzero(column.is_null(nan_is_null=True).to_numpy())
    if 0 < len(without) < len(column):
        raise InputError(f"{path}: expected a label in each row. Row {without[0]} has none.")
    if len(without):
        return np.full(len(column), NO_LABEL)
    if _is_text(column.type):
        return np.array(column.to_pylist(), object)
    try:
        return column.cast(pyarrow.int64()).to_numpy()
    except pyarrow.ArrowInvalid as error:  # a fraction, or beyond 64 bits
        raise InputError(
            f"{path}: expected labels that are classes, as whole numbers or text. Arrow says: "
            f"{error}."
        ) from None


def _classes(path: pathlib.Path, files: Files, known: str | None) -> Classes:
    """Return the names of the labels, and {split: labels as whole numbers}.

    The names are those that the files declare, else the text that labels are, else the numbers.
    """
    first, *others = (file for of_split in files.values() for file in of_split)
    for file in others:
        if file.label != first.label:
            raise InputError(
                f"{file.path} has its labels in the column {file.label}, {first.path} in "
                f"{first.label}. Name one by --label_key."
            )
        if file.labels.dtype != first.labels.dtype:
            raise InputError(f"{path}: the labels of some files are text, of others numbers.")
    console.say(f"{first.path}: images of the column {first.image}, labels of {first.label}.")
    declared = first.classes
    if any(file.classes != declared for file in files["train"]):
        raise InputError(f"{path}: its files name different classes. Prepare one dataset of them.")
    for file in others:
        if file.classes and file.classes != declared:
            raise InputError(f"{file.path} names other classes than the train split.")
    parts = {split: [(str(file.path), file.labels) for file in of] for split, of in files.items()}
    if first.labels.dtype == object:
        texts = {split: np.concatenate([some for _, some in of]) for split, of in parts.items()}
        return text_classes(str(path), known, texts, declared)
    names = check_classes(str(path), declared, known) if declared else KNOWN.get(known or "", ())
    return number_classes(parts, names)
