"""Reads encoded images and labels from Parquet files, as the Hugging Face hub has them."""

import collections
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import pyarrow
import pyarrow.parquet

from lottery_tf.datasets import columns
from lottery_tf.datasets.encoded import Split, one_size
from lottery_tf.datasets.labels import check_classes, check_labels, default_classes
from lottery_tf.datasets.raw import Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.method import Array
from lottery_tf.terminal import console

# train.parquet, train-00000-of-00002.parquet, train_1.parquet; or the folder train of 0000.parquet
SPLIT = re.compile(r"(train|test|validation|valid|val)(?![a-z])")
OTHER = re.compile(r"(\w+)-\d+-of-\d+")
NAMES = {"val": "validation", "valid": "validation"}
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
         upright: bool = True, image_key: str | None = None,
         label_key: str | None = None) -> Sources:  # fmt: skip
    """The splits in a Parquet file, in several with commas, or in those of a directory.

    Args:
        path: files and folders that are named after a split; one file alone may have any name.
        known: a dataset whose classes have known names.
        skip_bad: leave unreadable images out.
        small: decode images that all have one size, of at most so many pixels a side.
        upright: turn images as their EXIF orientation says.
        image_key, label_key: the columns, where it is not clear which.

    Raises:
        InputError: a file is missing, damaged or has no such columns, a label is out of range, or
            an image is unreadable; names the row.
    """
    tables, names = _tables(path, known, image_key, label_key)
    splits = {
        split: Split(table, names, size=None, skip_bad=skip_bad, upright=upright)
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
    tables: dict[str, Table] = {}
    names: tuple[str, ...] = ()
    for split, files in _splits(path).items():
        found = {file: columns.find(file, image_key, label_key) for file in files}
        labels = np.concatenate([_labels(file, some) for file, some in found.items()])
        if not len(labels):
            raise InputError(f"{path}: its {split} split has no rows.")
        if (labels == NO_LABEL).all():
            console.say(f"{path}: left out the {split} split, which has no labels (all are -1).")
            continue
        names = names or _classes(path, found, known, labels)
        _check_rows(found, labels, names)
        tables[split] = Table(path, found, labels, names)
    if "train" not in tables:
        raise InputError(f"{path}: expected labels in its train split. Found: all are -1.")
    return tables, names


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
        found = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
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
    return NAMES.get(found[1], found[1]) if found else None


def _batches(path, column, rows):
    """Batches of one column of a file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(rows, columns=[column])
    except (pyarrow.ArrowException, OSError) as error:
        raise columns.unreadable(path, error) from None


def _labels(file, found):
    """int64 (rows,)."""
    parts = []
    for batch in _batches(file, found.label, 65536):
        column, start = batch.column(0), sum(map(len, parts))
        if column.null_count:
            row = start + column.is_null().to_pylist().index(True)
            raise InputError(f"{file}: expected a label in each row. Row {row} has none.")
        parts.append(column.to_numpy(zero_copy_only=False).astype(np.int64))
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _classes(path, files, known, labels):
    """The names of the labels: of the files, or else of the numbers in the training split."""
    named = {found.classes for found in files.values()}
    if len(named) > 1:
        raise InputError(f"{path}: its files name different classes. Prepare one dataset of them.")
    classes = named.pop()
    if classes:
        return check_classes(str(path), classes, known)
    check_labels(f"{path}: train", labels)
    return default_classes(str(path), known, labels)


def _check_rows(files, labels, classes):
    start = 0
    for file, found in files.items():
        check_labels(str(file), labels[start : start + found.rows], len(classes))
        start += found.rows
        if found.classes and found.classes != classes:
            raise InputError(f"{file} names other classes than the train split.")
