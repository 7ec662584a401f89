"""Reads images and labels from an npz file, under the names that Keras gives them."""

import dataclasses
import pathlib
import re
import zipfile
from typing import Any

import numpy as np

from lottery_tf.datasets import raw
from lottery_tf.datasets.labels import KNOWN, check_classes, number_classes
from lottery_tf.datasets.layout import PIXELS
from lottery_tf.datasets.names import brief, check_split, split_of
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUM")  # of numpy.savez; empty; of numpy.save


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The images (n, h, w, channels) and labels (n,) of a split, and where each comes from."""

    x: str
    y: str
    images: Array
    labels: Array


def read(path: pathlib.Path, *, known: str | None, skip_bad: bool) -> raw.Sources:
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
    train = pairs["train"]
    for pair in pairs.values():
        mine, others = (f"{p.images.shape[1:]} {p.images.dtype}" for p in (pair, train))
        if mine != others:
            first = train.x.removeprefix(f"{path}: ")
            raise InputError(f"{pair.x} has images {mine}, {first} {others}. Expected the same.")
    names = KNOWN.get(known or "", ())
    if (given := arrays.get("classes")) is not None:
        if given.ndim != 1 or given.dtype.kind != "U":
            raise InputError(
                f"{path}: expected classes to be an array of names, (classes,) of text. Found: "
                f"{given.shape} {given.dtype.name}"
            )
        names = check_classes(f"{path}: classes", tuple(map(str, given)), known)
    parts = {split: [(pair.y, pair.labels)] for split, pair in pairs.items()}
    classes, labels = number_classes(parts, names)
    sources = {}
    for split, pair in pairs.items():
        kept = _finite(pair.x, pair.images, skip_bad)
        sources[split] = _source(pair.y, pair.images[kept], labels[split][kept], classes)
    return sources


def _load(path: pathlib.Path) -> dict[str, Array]:
    """Return {name: array} of an npz file."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"--raw_dir={path} {what}: expected an npz file, as numpy.savez writes.")
    try:
        with path.open("rb") as opened:
            if opened.read(len(MAGIC[0])) not in MAGIC:
                ending = path.suffix.lower()
                other = (
                    f", and its ending is {ending}" if ending not in (".npz", ".npy", "") else ""
                )
                advice = "; read it by --source=parquet" if ending == ".parquet" else ""
                raise TypeError(f"it does not begin as one{other}{advice}")
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


def _pairs(path: pathlib.Path, arrays: dict[str, Array]) -> dict[str, _Pair]:
    """Return {split: its arrays}."""
    keys: dict[str, dict[str, str]] = {}  # {split: {"x" | "y": key}}
    others = []
    for key in arrays:
        if found := re.fullmatch(r"([xy])_(.+)", key, re.IGNORECASE | re.DOTALL):
            kind, split = found[1].lower(), split_of(found[2])
        elif found := re.fullmatch(r"(\w+)_(images|labels)", key, re.IGNORECASE):  # as MedMNIST
            kind, split = ("x" if found[2].lower() == "images" else "y"), split_of(found[1])
        else:
            others += [key] if key != "classes" else []
            continue
        check_split(f"{path}: {brief(key)}", split)
        other = keys.setdefault(split, {}).setdefault(kind, key)
        if other != key:
            raise InputError(
                f"{path} has two arrays of the {split} split: {other} and {key}. Keep one."
            )
    all_names = ", ".join(map(brief, arrays))
    if "train" not in keys:
        raise InputError(
            f"{path}: expected the arrays x_train and y_train, and mostly x_test and y_test. "
            f"Found: {all_names or 'none'}"
        )
    if others:
        console.say(f"{path}: ignored arrays: {', '.join(map(brief, others))}.")
    pairs = {}
    for split, of_split in keys.items():
        for kind in "xy":
            if kind not in of_split:
                raise InputError(f"{path} lacks {kind}_{split}. Found: {all_names}")
        x, y = (f"{path}: {of_split[kind]}" for kind in "xy")
        pair = _Pair(x, y, _images(x, arrays[of_split["x"]]), _labels(y, arrays[of_split["y"]]))
        if len(pair.images) != len(pair.labels):
            raise InputError(
                f"{x} has {len(pair.images)} images, {of_split['y']} {len(pair.labels)} labels."
            )
        if not len(pair.labels):
            raise InputError(f"{path}: expected images in {of_split['x']}. Found none.")
        pairs[split] = pair
    return pairs


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
    if labels.ndim not in (1, 2) or labels.size != len(labels):
        advice = ""
        if labels.ndim == 2 and labels.shape[1] > 1:
            one_each = (np.count_nonzero(labels, axis=1) == 1).all()
            advice = (
                ", as of one-hot labels. Save y.argmax(1)."
                if one_each
                else ", with several labels, or none, for some images. These are not classes that "
                "exclude each other."
            )
        raise InputError(
            f"{what}: expected one label for each image, (n,) or (n, 1). Found: "
            f"{labels.shape}{advice}"
        )
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"{what}: expected labels that are whole numbers from 0 on. Found: "
            f"{labels.dtype.name}. Save integers, and the names of the classes as the array "
            "`classes`."
        )
    return labels.reshape(-1)


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
