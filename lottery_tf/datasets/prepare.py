"""Writes datasets in TensorFlow Datasets' layout: aside, then renamed."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable

import filelock

from lottery_tf.datasets import (
    DATASETS,
    arrays,
    catalog,
    census,
    download,
    folders,
    parquet,
    raw,
    usage,
)
from lottery_tf.datasets.image_files import WHITE
from lottery_tf.datasets.layout import read_class_names, read_splits
from lottery_tf.datasets.shrinking import smaller
from lottery_tf.datasets.writing import write
from lottery_tf.errors import InputError
from lottery_tf.terminal import console

# What a prepared dataset must hold: examples per split, and the TFDS version that it equals.
COUNTS = {
    "mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
}
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
VERSIONS = {"mnist": "3.0.1", "cifar10": "3.0.2", "cifar100": "3.0.2", "imagenet2012": "5.1.0"}
NAME = re.compile(r"\w[\w.+-]*")
LONGEST_NAME = 100
YOUNG = 60  # seconds within which the maker of a directory locks it
SMALL = 128  # images of one size up to this are stored decoded, to be resident


def _cifar(directory, *, name, **options):
    return raw.cifar_archives(name, directory) or folders.image_folders(
        directory, size=(32, 32), **options
    )


# How the user's own files are read: a function of their directory that gives a Source per split.
RAW: dict[str, Callable[..., raw.Sources]] = {
    "mnist": lambda directory, **_: raw.mnist(directory),
    "cifar10": functools.partial(_cifar, name="cifar10"),
    "cifar100": functools.partial(_cifar, name="cifar100"),
    # As TFDS stores ImageNet, and all train on it: not turned.
    "imagenet2012": functools.partial(folders.image_folders, upright=False),
    "image_folder": functools.partial(folders.image_folders, small=SMALL, untested=True),
}


# Sources of any dataset: their reader, and the known datasets that it may be of.
ANY = {"arrays": (arrays.read, tuple(COUNTS)), "parquet": (parquet.read, tuple(VERSIONS))}


def prepare(dataset: str | None, source: str, *, data_dir: str, raw_dir: str | None = None,
            name: str | None = None, overwrite: bool = False, skip_bad: bool = False,
            image_key: str | None = None, label_key: str | None = None,
            shrink: int = 1, white_level: int = WHITE) -> pathlib.Path:  # fmt: skip
    """Prepares a dataset below data_dir / name.

    Args:
        dataset: of "raw" a key of RAW, of "tfds" its name there; else the known one, or None.
        source: "tfds" downloads, or reads files in raw_dir that were downloaded by hand; "raw"
            reads the files in raw_dir, "arrays" an npz file, "parquet" its files.
        name: what to call it; by default as the dataset.
        overwrite, skip_bad: replace a dataset that exists; leave unreadable images out.
        image_key, label_key: the columns of Parquet files, where it is not clear which.
        shrink: the height and width are divided by it.
        white_level: the level of gray with 16 bits that becomes 255.

    Returns:
        The directory of the dataset's version.

    Raises:
        InputError: a flag does not fit, the dataset is there already, a file is missing or not
            what it should be, or there is no download. Nothing half made is left.
    """
    directory = pathlib.Path(raw_dir) if raw_dir else None
    keys = {"image_key": image_key, "label_key": label_key}
    _check_flags(dataset, source, directory, name, skip_bad, keys)
    _check_shrink(shrink, dataset, source, name)
    _check_white(white_level, dataset, source)
    name = name or dataset
    assert name, "_check_flags asks for one."
    if source == "tfds":
        name = catalog.full_name(name)
        download.check(name, directory)
    target = pathlib.Path(data_dir) / name
    _check_target(target, overwrite, directory)
    with _aside(target) as aside:
        if source == "tfds":
            download.download(name, aside, directory, advice=_advice(name))
        else:
            sources = _read(dataset, source, directory, skip_bad, keys, white_level)
            check_counts(name, sources, str(directory), fewer=skip_bad)
            sources = smaller(sources, shrink) if shrink > 1 else sources
            write(name, sources, aside, version=VERSIONS.get(name, "1.0.0"))
        _replace(aside / name, target)
    path = next(target.glob("*/dataset_info.json")).parent
    if source == "tfds":
        _tell(path, name)
    return path


def _check_flags(dataset, source, raw_dir, name, skip_bad, keys):
    _check_names(dataset, source, name)
    if source != "tfds" and not raw_dir:
        kind = {"arrays": "the npz file", "parquet": "the Parquet files, or their directory"}
        what = kind.get(source, "the directory of the raw files")
        raise InputError(f"--source={source} expects --raw_dir, {what}.")
    # The reader of arrays or Parquet files says itself what it misses.
    if raw_dir and source in ("raw", "tfds") and not raw_dir.is_dir():
        what = "is no directory" if raw_dir.exists() else "does not exist"
        advice = " Unpack it first." if raw_dir.is_file() else ""
        raise InputError(
            f"--raw_dir={raw_dir} {what}: expected the directory of the raw files.{advice}"
        )
    if source == "tfds" and skip_bad:
        raise InputError("--skip_bad does nothing with --source=tfds: leave it out.")
    for key, value in keys.items():
        if value and source != "parquet":
            raise InputError(f"--{key} does nothing with --source={source}: leave it out.")


def _check_shrink(shrink, dataset, source, name):
    if shrink < 1:
        raise InputError(f"--shrink: expected a whole number, at least 1. Received: {shrink}")
    if shrink > 1 and source == "tfds":
        raise InputError("--shrink does nothing with --source=tfds: leave it out.")
    if shrink > 1 and name in (None, dataset):
        raise InputError(
            f"--shrink={shrink} makes another dataset: give it a --name, as {dataset}_small."
        )


def _check_white(white, dataset, source):
    if not 1 <= white <= WHITE:
        raise InputError(f"--white_level: expected a number from 1 to {WHITE}. Received: {white}")
    files = source == "parquet" or dataset in ("image_folder", "imagenet2012")
    if white != WHITE and (source in ("tfds", "arrays") or not files):
        raise InputError(
            "--white_level does nothing without files of images, as of --dataset=image_folder or "
            "--source=parquet: leave it out."
        )


def _tell(path, name):
    """Tells which classes of a prepared dataset have no images, and which images are twice.

    The dataset is complete: an error here only means that the check could not be made.
    """
    try:
        found, _ = usage.fields(path)
        numbers = list(map(str, range(found.classes)))
        names = read_class_names(path, found.label_key)
        names = names if len(names) == found.classes else numbers
        census.of_records(read_splits(path), found, names).tell(name)
    except Exception as error:  # whatever another version of TFDS has written
        console.say(
            f"{name} is prepared, but could not be checked for classes without images and for "
            f"equal images: {error}"
        )


def _check_names(dataset, source, name):
    if source in ANY:
        known = ANY[source][1]
        if not dataset and not name:
            raise InputError(f"--source={source} expects --name, what to call the dataset.")
        if dataset and dataset not in known:
            raise InputError(
                f"--dataset with --source={source}: expected one of {', '.join(known)}. Received: "
                f"{dataset}. Call a dataset of your own by --name, without --dataset."
            )
    elif not dataset:
        raise InputError(
            f"--source={source} expects --dataset, " + ("a name of TensorFlow Datasets, as "
            "fashion_mnist." if source == "tfds" else f"one of {', '.join(RAW)}.")
        )  # fmt: skip
    elif source == "raw" and dataset not in RAW:
        raise InputError(
            f"--dataset with --source=raw: expected one of {', '.join(RAW)}. Received: {dataset}. "
            "Images in folders by class are an image_folder; others: --source=arrays or parquet."
        )
    elif dataset == "image_folder" and source == "tfds":
        raise InputError("--dataset=image_folder expects --source=raw.")
    if source == "tfds" and name not in (None, dataset):
        raise InputError(
            f"--name={name} expects --source=raw, arrays or parquet: TFDS gives {dataset} its own "
            "name."
        )
    if name and (not NAME.fullmatch(name) or len(name) > LONGEST_NAME):
        raise InputError(
            f"--name: expected the name of a directory, of letters, digits, and _ - . + after the "
            f"first, {LONGEST_NAME} characters at most. Received: {name}"
        )
    if name in DATASETS and name != dataset:
        advice = f"add --dataset={name}, or choose" if source in ANY else "Choose"
        raise InputError(
            f"--name: {name} is a known dataset, whose images would be expected under that name. "
            f"{advice[0].upper()}{advice[1:]} another."
        )


def _check_target(target, overwrite, raw_dir):
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not any(target.glob("*/dataset_info.json")):
        raise InputError(
            f"{target} is there and is no directory of a prepared dataset, so it will not be "
            "replaced. Choose another --name or --data_dir."
        )
    if not overwrite:
        raise InputError(f"{target} exists already. To make it again, add --overwrite.")
    inside = [
        place
        for place in str(raw_dir).split(",")
        if pathlib.Path(place).resolve().is_relative_to(target.resolve())
    ]
    if raw_dir and inside:
        raise InputError(f"--overwrite would remove --raw_dir={raw_dir}, which lies in {target}.")


def _read(dataset, source, path, skip_bad, keys, white):
    """The Sources in the files of a source, of which there is a training split."""
    if source == "raw":
        return RAW[dataset](path, skip_bad=skip_bad, white=white)
    options = keys if source == "parquet" else {}
    small = 0 if dataset == "imagenet2012" else SMALL
    if source == "parquet":
        reading = {"upright": dataset != "imagenet2012", "white": white}
        options |= {"small": small, "reading": reading}
    sources = ANY[source][0](path, known=dataset, skip_bad=skip_bad, **options)
    if shape := SHAPES.get(dataset):
        for split, data in sources.items():
            found = getattr(next(data.examples())[1], "shape", "files of other sizes")
            if found != shape:
                raise InputError(
                    f"{path}: expected images {shape} in the {split} split of {dataset}. Found: "
                    f"{found}. Call a dataset of your own by --name, without --dataset."
                )
    return sources


def _advice(name):
    """How else to come by a dataset that cannot be downloaded."""
    if name in RAW:
        return "If you have its raw files, use --source=raw --raw_dir=<their directory>."
    return "If you have its images, prepare them by --source=raw, arrays or parquet."


def check_counts(name: str, sources: raw.Sources, raw_dir: str, *, fewer: bool = False) -> None:
    """Raises InputError unless every split has the examples that the dataset is known for.

    Args:
        fewer: whether it may have fewer.
    """
    for split, count in COUNTS.get(name, {}).items():
        found = sources[split].count if split in sources else 0
        if found > count or (found < count and not fewer):
            raise InputError(
                f"{raw_dir}: expected {count} examples in the {split} split of {name}. Found: "
                f"{found}. Are the files of the two splits swapped?"
            )


def _replace(made, target):
    if target.exists():
        os.rename(target, made.parent / "before")  # removed with the directory that it is in
    os.rename(made, target)


@contextlib.contextmanager
def _aside(target):
    """A directory beside `target` to write into; it is gone afterwards, whatever happens.

    What a killed preparation left is removed by the next one; one that still runs holds a lock.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        with contextlib.suppress(OSError), open(leftover / ".lock", "a") as file:
            if not filelock.lock_descriptor(file.fileno(), blocking=False):
                continue
            # Another preparation may be about to lock the one that it has just made.
            if time.time() - leftover.stat().st_mtime > YOUNG:
                shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
    ) as aside, open(pathlib.Path(aside) / ".lock", "a") as file:  # fmt: skip
        with contextlib.suppress(OSError):  # a file system without locks
            filelock.lock_descriptor(file.fileno(), blocking=False)
        yield pathlib.Path(aside)
