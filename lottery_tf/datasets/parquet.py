"""Reads encoded images and labels from Parquet files, as the Hugging Face hub has them."""

import collections
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from lottery_tf.datasets import columns
from lottery_tf.datasets.encoded import Split, one_size
from lottery_tf.datasets.labels import (
    KNOWN,
    check_classes,
    check_labels,
    count_numbers,
    default_classes,
    text_classes,
)
from lottery_tf.datasets.listing import is_hidden
from lottery_tf.datasets.names import check_split, split_of
from lottery_tf.datasets.raw import Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

# train.parquet, train-00000-of-00002.parquet, train_1.parquet; or the folder train of 0000.parquet
SPLIT = re.compile(r"(train(ing)?|test(ing)?|validation|valid|val)(?![a-z])", re.IGNORECASE)
OTHER = re.compile(r"(\w+)-\d+-of-\d+")
NO_LABEL = -1  # of a split whose labels are not published
ROWS = 64  # of images in memory at a time


class Table:
    """The images of a split, in one or more files.

    Args:
        place: the directory of the files.
        files: {path: columns.Columns}.
        labels: int64 (rows,), of the files one after the other.
        classes: the names of the labels.
    """

    def __init__(self, place: pathlib.Path, files: dict[pathlib.Path, columns.Columns],
                 labels: Array, classes: tuple[str, ...]):  # fmt: skip
        self.place, self.files = place, files
        names = (classes[label] for label in labels)
        self.images: dict[str, str] = dict(zip(self._names(), names, strict=True))

    def _names(self):
        for path, found in self.files.items():
            for row in range(found.rows):
                yield f"{path.name}, row {row}"

    def contents(self) -> Iterator[tuple[str, bytes | None]]:
        """(name, bytes) of each row."""
        names = iter(self.images)
        for path, found in self.files.items():
            for batch in _batches(path, found.image, ROWS):
                column = batch.column(0)
                if pyarrow.types.is_struct(column.type):
                    column = column.field("bytes") if not column.null_count else _bytes(column)
                for value in column:
                    yield next(names), value.as_py()


def _bytes(column):
    """The bytes of structs, null where the struct is."""
    return pyarrow.array([(value or {}).get("bytes") for value in column.to_pylist()])


def read(path: pathlib.Path, *, known: str | None = None, skip_bad: bool = False, small: int = 0,
         reading: dict[str, Any] | None = None, image_key: str | None = None,
         label_key: str | None = None) -> Sources:  # fmt: skip
    """The splits in a Parquet file, in several with commas, or in those of a directory.

    Args:
        path: files and folders that are named after a split; one file alone may have any name.
        known: a dataset whose classes have known names.
        skip_bad: leave unreadable images out.
        small: decode images that all have one size, of at most so many pixels a side.
        reading: options of image_files.read.
        image_key, label_key: the columns, where it is not clear which.

    Raises:
        InputError: a file is missing, damaged or has no such columns, a label is out of range, or
            an image is unreadable; names the row.
    """
    tables, names = _tables(path, known, image_key, label_key)
    splits = {
        split: Split(table, names, size=None, skip_bad=skip_bad, reading=reading or {})
        for split, table in tables.items()
    }
    if small and (one := one_size(splits.values(), small)):
        gray = all(split.all_gray for split in splits.values())
        for each in splits.values():
            each.size, each.gray = one, gray
    return {
        split: Source(len(each.listing.images), each.examples, names)
        for split, each in splits.items()
    }


def _tables(path, known, image_key, label_key):
    """({split: Table} of those with labels, the names of the labels)."""
    found, labels = {}, {}
    for split, files in _splits(path).items():
        columns_of = {file: columns.find(file, image_key, label_key) for file in files}
        found[split] = columns_of
        labels[split] = _joined(path, [_labels(*item) for item in columns_of.items()])
        if not len(labels[split]):
            raise InputError(f"{path}: its {split} split has no rows.")
        if labels[split].dtype != object and (labels[split] == NO_LABEL).all():
            console.say(
                f"{path}: left out the {split} split, which has no labels (all are null, or -1)."
            )
            del found[split], labels[split]
    if "train" not in found:
        raise InputError(f"{path}: expected labels in its train split. Found: all are null, or -1.")
    _check_columns(found)
    names, labels = _classes(path, found, known, labels)
    return {split: Table(path, found[split], labels[split], names) for split in found}, names


def _check_columns(found):
    """Raises InputError unless all files have their labels in one column; says which it is."""
    files = {file: some for split in found.values() for file, some in split.items()}
    (first, of_first), *others = files.items()
    for file, some in others:
        if some.label != of_first.label:
            raise InputError(
                f"{file} has its labels in the column {some.label}, {first} in {of_first.label}. "
                "Name one by --label_key."
            )
    console.say(f"{first}: images of the column {of_first.image}, labels of {of_first.label}.")


def _splits(path):
    """{split: its files}, train first."""
    files = _files(path)
    splits = collections.defaultdict(list)
    for file in files:
        split = _split_of(file, by_folder=len(files) > 1) or ("train" if len(files) == 1 else None)
        if not split:
            raise InputError(
                f"{file}: expected the name of its split first, as train-00000-of-00001.parquet or "
                "test.parquet. Rename it, or name the files to read by --raw_dir, with commas."
            )
        splits[split].append(file)
    for split, some in splits.items():
        if len({file.parent for file in some}) > 1:
            raise InputError(
                f"{path} has files of the {split} split in several directories: {some[0].parent}, "
                f"{some[-1].parent}. Name one dataset by --raw_dir."
            )
    if "train" not in splits:
        raise InputError(
            f"{path}: expected a train split, as train-00000-of-00001.parquet. Found: "
            f"{', '.join(splits)}"
        )
    return dict(sorted(splits.items(), key=lambda item: item[0] != "train"))


def _files(path):
    listed = [path]
    if not path.exists():
        listed = [pathlib.Path(name).expanduser() for name in str(path).split(",")]
    files: list[pathlib.Path] = []
    for place in listed:
        if not place.exists():
            raise InputError(f"--raw_dir={place} does not exist: expected a Parquet file, or a "
                             "directory of them.")  # fmt: skip
        found = [place]
        if place.is_dir():  # without what the system or the hub's client keeps beside the files
            paths = sorted(place.rglob("*.parquet"))
            found = [path for path in paths if not is_hidden(str(path.relative_to(place)))]
        if not found:
            raise InputError(f"{place}: expected files that end in .parquet. Found none.")
        files += found
    if len(set(files)) < len(files):
        raise InputError(f"--raw_dir={path}: expected each file once.")
    return files


def _split_of(file, *, by_folder):
    """The split that a file, or its folder, is named after; None if neither is."""
    found = OTHER.match(file.stem) or SPLIT.match(file.stem)
    if not found and by_folder:
        found = SPLIT.fullmatch(file.parent.name)
    return check_split(str(file), split_of(found[1])) if found else None


def _batches(path, column, rows):
    """Batches of one column of a file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(rows, columns=[column])
    except (pyarrow.ArrowException, OSError) as error:
        raise columns.unreadable(path, error) from None


def _labels(file, found):
    """The labels of a file: int64 (rows,), or of text object (rows,).

    Of a file without any, each is NO_LABEL.
    """
    parts = []
    for batch in _batches(file, found.label, 65536):
        column = batch.column(0)
        is_dictionary = pyarrow.types.is_dictionary(column.type)
        parts.append(column.dictionary_decode() if is_dictionary else column)
    # Whether each row has no label: null or, of numbers, NaN.
    missing = [np.asarray(part.is_null(nan_is_null=True)) for part in parts]
    without = np.flatnonzero(np.concatenate([*missing, np.zeros(0, bool)]))
    if 0 < len(without) < found.rows:
        raise InputError(f"{file}: expected a label in each row. Row {without[0]} has none.")
    if len(without):
        return np.full(found.rows, NO_LABEL)
    return np.concatenate([*(_numbers(file, part) for part in parts)] or [np.zeros(0, np.int64)])


def _numbers(file, column):
    """The labels in a column that has no nulls: int64, or text as objects."""
    if columns.is_text(column.type):
        return np.array(column.to_pylist(), object)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**62))  # which is no class either
    if values.dtype.kind == "f":
        odd = np.flatnonzero(values != np.floor(values))
        if len(odd):
            raise InputError(
                f"{file}: expected labels that are classes, as whole numbers or text. Found: "
                f"{values[odd[0]]}"
            )
        values = np.clip(values, -(2.0**62), 2.0**62)
    return values.astype(np.int64)


def _joined(path, parts):
    """The labels of the files of a split, one after the other."""
    if len({part.dtype for part in parts if len(part)}) > 1:
        raise InputError(f"{path}: the labels of some files are text, of others numbers.")
    return np.concatenate(parts)


def _classes(path, found, known, labels):
    """(the names of the labels, {split: labels as whole numbers}).

    The names are those that the files declare, else the text that labels are, else the numbers.
    """
    named = {columns_of.classes for columns_of in found["train"].values()}
    if len(named) > 1:
        raise InputError(f"{path}: its files name different classes. Prepare one dataset of them.")
    declared = named.pop()
    for file, columns_of in ((file, one) for some in found.values() for file, one in some.items()):
        if columns_of.classes and columns_of.classes != declared:
            raise InputError(f"{file} names other classes than the train split.")
    if len({some.dtype for some in labels.values()}) > 1:
        raise InputError(f"{path}: the labels of some splits are text, of others numbers.")
    if labels["train"].dtype == object:
        return text_classes(str(path), known, labels, declared)
    if declared:
        names = check_classes(str(path), declared, known)
        return names, _checked(found, labels, len(names))
    if known in KNOWN:
        return KNOWN[known], _checked(found, labels, len(KNOWN[known]))
    labels = _checked(found, labels, count_numbers(f"{path}: train", labels["train"]))
    return default_classes(str(path), labels)


def _checked(found, labels, classes):
    """The labels; raises InputError, with file and row, at one that is of no class."""
    for split, files in found.items():
        start = 0
        for file, columns_of in files.items():
            check_labels(str(file), labels[split][start : start + columns_of.rows], classes)
            start += columns_of.rows
    return labels
