"""Reads images and labels from an npz file, under the names that Keras gives them."""

import pathlib
import re
import zipfile

import numpy as np

from lottery_tf.datasets import raw
from lottery_tf.datasets.labels import check_classes, check_labels, default_classes
from lottery_tf.errors import InputError
from lottery_tf.terminal import console

PIXELS = ("uint8", "uint16", "float32")
SPLITS = {"val": "validation", "valid": "validation"}


def read(path: pathlib.Path, *, known: str | None = None, skip_bad: bool = False) -> raw.Sources:
    """The splits x_train and y_train, x_test and y_test, …; the array `classes` names the labels.

    Args:
        path: of the npz file. Images (n, h, w) or (n, h, w, channels), uint8, uint16 or float32;
            labels (n,) or (n, 1), whole numbers from 0 on.
        known: a dataset whose classes have known names.
        skip_bad: leave out images of which pixels are not finite.

    Raises:
        InputError: the file, or an array in it, is not there or not like that.
    """
    arrays = _load(path)
    names = dict.fromkeys(re.sub("^[xy]_", "", key) for key in arrays if re.match("[xy]_.", key))
    if "train" not in names:
        raise InputError(
            f"{path}: expected the arrays x_train and y_train, and mostly x_test and y_test. "
            f"Found: {', '.join(arrays) or 'none'}"
        )
    if others := [key for key in arrays if not re.match("[xy]_.", key) and key != "classes"]:
        console.say(f"{path}: ignored arrays: {', '.join(others)}.")
    pairs = {name: _pair(path, arrays, name) for name in names}
    first = pairs["train"][0]
    for name, (images, _) in pairs.items():
        if (images.shape[1:], images.dtype) != (first.shape[1:], first.dtype):
            raise InputError(
                f"{path}: x_{name} has images {images.shape[1:]} {images.dtype}, x_train "
                f"{first.shape[1:]} {first.dtype}. Expected the same."
            )
    classes = _classes(path, arrays, known, pairs["train"][1])
    sources = {}
    for name, (images, labels) in pairs.items():
        check_labels(f"{path}: y_{name}", labels, len(classes))
        kept = _finite(f"{path}: x_{name}", images, skip_bad)
        sources[SPLITS.get(name, name)] = _source(f"{path}: y_{name}", images[kept], labels[kept],
                                                  classes)  # fmt: skip
    return sources


def _load(path):
    """{name: array} of an npz file."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"--raw_dir={path} {what}: expected an npz file, as numpy.savez writes.")
    try:
        with path.open("rb") as opened:
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


def _member(path, file, key):
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


def _pair(path, arrays, name):
    """(images (n, h, w, channels), labels (n,)) of a split."""
    for key in (f"x_{name}", f"y_{name}"):
        if key not in arrays:
            raise InputError(f"{path} lacks {key}. Found: {', '.join(arrays)}")
    images = _images(f"{path}: x_{name}", arrays[f"x_{name}"])
    labels = _labels(f"{path}: y_{name}", arrays[f"y_{name}"])
    if len(images) != len(labels):
        raise InputError(
            f"{path}: x_{name} has {len(images)} images, y_{name} {len(labels)} labels."
        )
    if not len(labels):
        raise InputError(f"{path}: expected images in x_{name}. Found none.")
    return images, labels


def _images(what, images):
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


def _labels(what, labels):
    if labels.ndim == 2 and labels.shape[1] > 1:
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


def _classes(path, arrays, known, labels):
    """The names of the classes."""
    if "classes" not in arrays:
        check_labels(f"{path}: y_train", labels)
        return default_classes(f"{path}: y_train", known, labels)
    classes = arrays["classes"]
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise InputError(
            f"{path}: expected classes to be an array of names, (classes,) of text. Found: "
            f"{classes.shape} {classes.dtype.name}"
        )
    return check_classes(f"{path}: classes", tuple(map(str, classes)), known)


def _finite(what, images, skip_bad):
    """The index of the images of which all pixels are finite."""
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


def _source(what, images, labels, classes):
    """The Source of a split; images that come class by class are mixed."""
    if len(labels) < 3 or (np.diff(labels.astype(np.int64)) < 0).any():
        return raw.of_arrays(images, labels, classes)
    console.say(f"{what} goes class by class: the images are stored in a mixed order.")
    keys = [f"{row:09d}" for row in range(len(labels))]
    return raw.Source(len(labels), lambda: zip(keys, images, labels, strict=True), classes)
