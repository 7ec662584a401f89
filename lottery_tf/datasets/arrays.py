"""Reads images and labels from an npz file, under the names that Keras gives them."""

import dataclasses
import pathlib
import re
import zipfile
from typing import Any

import numpy as np

from lottery_tf.datasets import raw
from lottery_tf.datasets.labels import (
    KNOWN,
    check_classes,
    check_labels,
    count_numbers,
    default_classes,
)
from lottery_tf.datasets.names import brief, check_split, split_of
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUM")  # of numpy.savez; empty; of numpy.save
PIXELS = ("uint8", "uint16", "float32")


def read(path: pathlib.Path, *, known: str | None = None, skip_bad: bool = False) -> raw.Sources:
    """Read the splits x_train and y_train, x_test and y_test, …; `classes` names the labels.

    The names that MedMNIST gives, train_images and train_labels, mean the same.

    Args:
        path: of the npz file. Images (n, h, w) or (n, h, w, channels), uint8, uint16 or float32;
            labels (n,) or (n, 1), whole numbers from 0 on.
        known: a dataset whose classes have known names.
        skip_bad: leave out images of which pixels are not finite.

    Raises:
        InputError: the file, or an array in it, is missing or not like that.
    """
    arrays = _load(path)
    pairs = _pairs(path, arrays)
    first = pairs["train"]
    for pair in pairs.values():
        mine, others = (f"{p.images.shape[1:]} {p.images.dtype}" for p in (pair, first))
        if mine != others:
            raise InputError(
                f"{path}: {pair.x} has images {mine}, {first.x} {others}. Expected the same."
            )
    classes, labels = _classes(path, arrays, known, pairs)
    sources = {}
    for split, pair in pairs.items():
        kept = _finite(f"{path}: {pair.x}", pair.images, skip_bad)
        sources[split] = _source(
            f"{path}: {pair.y}", pair.images[kept], labels[split][kept], classes
        )
    return sources


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The images (n, h, w, channels) and labels (n,) of a split, and the names of both arrays."""

    x: str
    y: str
    images: Array
    labels: Array


def _pairs(path: pathlib.Path, arrays: dict[str, Array]) -> dict[str, _Pair]:
    """Return {split: its arrays}."""
    found: dict[str, dict[str, str]] = {}  # {split: {"x" | "y": key}}
    others = []
    for key in arrays:
        kind, split = _meaning(key)
        if not split:
            others += [key] if key != "classes" else []
            continue
        check_split(f"{path}: {brief(key)}", split)
        other = found.setdefault(split, {}).setdefault(kind, key)
        if other != key:
            raise InputError(
                f"{path} has two arrays of the {split} split: {other} and {key}. Keep one."
            )
    if "train" not in found:
        raise InputError(
            f"{path}: expected the arrays x_train and y_train, and mostly x_test and y_test. "
            f"Found: {', '.join(map(brief, arrays)) or 'none'}"
        )
    if others:
        console.say(f"{path}: ignored arrays: {', '.join(map(brief, others))}.")
    return {split: _pair(path, arrays, split, keys) for split, keys in found.items()}


def _meaning(key: str) -> tuple[str, str]:
    """Return ("x" or "y", the split) of the name of an array; of another name ("", "")."""
    if found := re.fullmatch(r"([xy])_(.+)", key, re.IGNORECASE | re.DOTALL):
        return found[1].lower(), split_of(found[2])
    if found := re.fullmatch(r"(\w+)_(images|labels)", key, re.IGNORECASE):  # as MedMNIST
        return ("x" if found[2].lower() == "images" else "y"), split_of(found[1])
    return "", ""


def _load(path: pathlib.Path) -> dict[str, Array]:
    """Return {name: array} of an npz file."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"--raw_dir={path} {what}: expected an npz file, as numpy.savez writes.")
    try:
        with path.open("rb") as opened:
            if opened.read(len(MAGIC[0])) not in MAGIC:
                raise TypeError(f"it does not begin as one{_kind(path)}")
            opened.seek(0)
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise TypeError("it holds one array alone, as numpy.save writes")
            return {key: _member(path, file, key) for key in file.files}
    except InputError:
        raise
    except Exception as error:  # what a damaged file raises is of any kind
        damaged = isinstance(error, (zipfile.BadZipFile, EOFError))
        reason = "it is damaged or empty" if damaged else str(error).rstrip(".")
        raise InputError(
            f"{path} cannot be read as an npz file ({reason}). Expected what "
            "numpy.savez(file, x_train=…, y_train=…, x_test=…, y_test=…) writes."
        ) from error


def _kind(path: pathlib.Path) -> str:
    """Return what a file is that has another ending, and how else it can be read."""
    ending = path.suffix.lower()
    if ending in (".npz", ".npy", ""):
        return ""
    other = "; read it by --source=parquet" if ending == ".parquet" else ""
    return f", and its ending is {ending}{other}"


def _member(path: pathlib.Path, file: Any, key: str) -> Array:
    try:
        array = file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(
            f"{path}: {key} is an array of Python objects, which are not read, as loading them "
            "can run any program. Save numbers of one shape: numpy.stack(list(…))."
        ) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} is no array")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _pair(path: pathlib.Path, arrays: dict[str, Array], split: str, keys: dict[str, str]) -> _Pair:
    for kind in "xy":
        if kind not in keys:
            raise InputError(f"{path} lacks {kind}_{split}. Found: {', '.join(map(brief, arrays))}")
    x, y = keys["x"], keys["y"]
    images = _images(f"{path}: {x}", arrays[x])
    labels = _labels(f"{path}: {y}", arrays[y])
    if len(images) != len(labels):
        raise InputError(f"{path}: {x} has {len(images)} images, {y} {len(labels)} labels.")
    if not len(labels):
        raise InputError(f"{path}: expected images in {x}. Found none.")
    return _Pair(x, y, images, labels)


def _images(what: str, images: Array) -> Array:
    """Return images (n, h, w, channels); raise InputError if the array cannot be images."""
    if images.dtype.name not in PIXELS:
        raise InputError(
            f"{what}: expected pixels of {', '.join(PIXELS)}. Found: {images.dtype.name}. Save "
            "them as one of these, by astype."
        )
    shape = images.shape
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        raise InputError(
            f"{what}: expected images (n, height, width) or (n, height, width, channels). Found: "
            f"{shape}"
        )
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3, 4):
        raise InputError(
            f"{what}: expected images (n, height, width, channels). Found: {shape}, which looks as "
            "if the channels came first. Save x.transpose(0, 2, 3, 1)."
        )
    return images[..., np.newaxis] if len(shape) == 3 else images


def _labels(what: str, labels: Array) -> Array:
    """Return labels (n,); raise InputError if the array cannot be labels."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not (np.count_nonzero(labels, axis=1) == 1).all():
            raise InputError(
                f"{what}: expected one label for each image, (n,) or (n, 1). Found: "
                f"{labels.shape}, with several labels, or none, for some images. These are not "
                "classes that exclude each other."
            )
        raise InputError(
            f"{what}: expected a label for each image, (n,) or (n, 1). Found: {labels.shape}, as "
            "of one-hot labels. Save y.argmax(1)."
        )
    if labels.ndim not in (1, 2) or labels.size != len(labels):
        raise InputError(f"{what}: expected labels (n,) or (n, 1). Found: {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"{what}: expected labels that are whole numbers from 0 on. Found: "
            f"{labels.dtype.name}. Save integers, and the names of the classes as the array "
            "`classes`."
        )
    return labels.reshape(-1)


def _classes(
    path: pathlib.Path, arrays: dict[str, Array], known: str | None, pairs: dict[str, _Pair]
) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Return the names of the classes, and {split: labels}."""
    labels, train = {split: pair.labels for split, pair in pairs.items()}, pairs["train"]
    if "classes" in arrays:
        names = arrays["classes"]
        if names.ndim != 1 or names.dtype.kind != "U":
            raise InputError(
                f"{path}: expected classes to be an array of names, (classes,) of text. Found: "
                f"{names.shape} {names.dtype.name}"
            )
        classes = check_classes(f"{path}: classes", tuple(map(str, names)), known)
    else:
        classes = KNOWN.get(known or "", ())
    count = len(classes) or count_numbers(f"{path}: {train.y}", train.labels)
    for pair in pairs.values():
        check_labels(f"{path}: {pair.y}", pair.labels, count)
    return (classes, labels) if classes else default_classes(f"{path}: {train.y}", labels)


def _finite(what: str, images: Array, skip_bad: bool) -> slice | Array:
    """Return the index of the images of which all pixels are finite."""
    if images.dtype != np.float32:
        return slice(None)
    finite = np.array([np.isfinite(image).all() for image in images])
    bad = np.flatnonzero(~finite).tolist()
    if bad and not skip_bad:
        raise InputError(
            f"{what}: expected finite pixels. Row {bad[0]} has others ({len(bad)} rows do). To "
            "leave such images out: --skip_bad."
        )
    for row in bad:
        console.say(f"Skipped: {what}: row {row} has pixels that are not finite.")
    if not finite.any():
        raise InputError(f"{what}: no image is left.")
    return finite if bad else slice(None)


def _source(what: str, images: Array, labels: Array, classes: tuple[str, ...]) -> raw.Source:
    """Return the Source of a split; images that come class by class are mixed."""
    if len(labels) < 3 or (np.diff(labels.astype(np.int64)) < 0).any():
        return raw.of_arrays(images, labels, classes)
    console.say(f"{what} goes class by class: the images are stored in a mixed order.")
    keys = [f"{row:09d}" for row in range(len(labels))]
    return raw.Source(len(labels), lambda: zip(keys, images, labels, strict=True), classes)
