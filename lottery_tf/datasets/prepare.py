"""Prepares datasets in TensorFlow Datasets' layout: written aside, then renamed."""

import contextlib
import functools
import os
import pathlib
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

import filelock

from lottery_tf.datasets import DATASETS, USERS_OWN, arrays, census, download, folders, parquet, raw
from lottery_tf.datasets.image_files import WHITE, Reading
from lottery_tf.datasets.labels import shortened
from lottery_tf.datasets.layout import find_fields, read_class_names, read_splits
from lottery_tf.datasets.splits import usual_test
from lottery_tf.datasets.writing import smaller, write
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
# The defaults of flags of lottery_tf.imp.
USUAL = {"data_dir": "data", "train_split": "train", "image_key": "image", "label_key": "label"}


def _cifar(name: str, directory: pathlib.Path, reading: Reading) -> raw.Sources:
    found = raw.cifar_archives(name, directory)
    return found or folders.image_folders(directory, reading, size=(32, 32))


# The readers of --source=raw: functions of (directory, Reading).
RAW: dict[str, Callable[[pathlib.Path, Reading], raw.Sources]] = {
    "mnist": lambda directory, reading: raw.mnist(directory),
    "cifar10": functools.partial(_cifar, "cifar10"),
    "cifar100": functools.partial(_cifar, "cifar100"),
    "imagenet2012": folders.image_folders,
    "image_folder": functools.partial(folders.image_folders, small=SMALL, untested=True),
}
# Sources of any dataset, and the known datasets that they may be of.
ANY = {"arrays": tuple(COUNTS), "parquet": tuple(VERSIONS)}


def prepare(
    dataset: str | None,
    source: str,
    *,
    data_dir: str,
    raw_dir: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    image_key: str | None = None,
    label_key: str | None = None,
    shrink: int = 1,
    white_level: int = WHITE,
) -> pathlib.Path:
    """Prepare a dataset below data_dir / name.

    Args:
        dataset: of "raw" a key of RAW, of "tfds" its name there; else the known one, or None.
        source: "tfds" downloads, or reads files in raw_dir that were downloaded by hand; "raw"
            reads the files in raw_dir, "arrays" an npz file, "parquet" its files.
        raw_dir: the files to read, or their directory.
        name: what to call it; by default as the dataset.
        overwrite, skip_bad: replace a dataset that exists; leave unreadable images out.
        image_key, label_key: the columns of Parquet files, where it is not clear which.
        shrink: what the height and width are divided by.
        white_level: the level of gray with 16 bits that becomes 255.

    Returns:
        The directory of the dataset's version.

    Raises:
        InputError: a flag does not fit, the dataset exists already, a file is missing or not what
            it should be, or it cannot be downloaded. Nothing half made is left.
    """
    directory = pathlib.Path(raw_dir) if raw_dir else None
    keys = {"image_key": image_key, "label_key": label_key}
    # TFDS stores ImageNet, and all train on it, as it is: not turned.
    reading = Reading(dataset != "imagenet2012", white_level, skip_bad)
    _check_names(dataset, source, name)
    _check_options(dataset, source, directory, name, keys, reading, shrink)
    name = name or dataset
    assert name, "_check_names asks for one."
    if source == "tfds":
        name = download.full_name(name)
        download.check(name, directory)
    target = pathlib.Path(data_dir) / name
    _check_target(target, overwrite, directory)
    with _aside(target) as aside:
        if source == "tfds":
            advice = "If you have its images, prepare them by --source=raw, arrays or parquet."
            if name in RAW:
                advice = "If you have its raw files, use --source=raw --raw_dir=<their directory>."
            download.download(name, aside, directory, advice=advice)
        else:
            assert directory, "_check_options asks for it."
            sources = _read(dataset, source, directory, keys, reading)
            _check_counts(name, sources, directory, fewer=skip_bad)
            sources = smaller(sources, shrink) if shrink > 1 else sources
            write(name, sources, aside, version=VERSIONS.get(name, "1.0.0"))
        if target.exists():
            os.rename(target, aside / "before")  # removed with the directory that it is in
        os.rename(aside / name, target)
    path = next(target.glob("*/dataset_info.json")).parent
    if source == "tfds":
        _tell(path, name)
    return path


def _check_names(dataset: str | None, source: str, name: str | None) -> None:
    """Raise InputError if --dataset or --name is missing, unknown, or no name of a directory."""
    of_raw = f"one of {', '.join(RAW)}"
    if source in ANY:
        if not dataset and not name:
            raise InputError(f"--source={source} expects --name, what to call the dataset.")
        if dataset and dataset not in ANY[source]:
            raise InputError(
                f"--dataset with --source={source}: expected one of {', '.join(ANY[source])}. "
                f"Received: {dataset}. Call a dataset of your own by --name, without --dataset."
            )
    elif not dataset:
        of_tfds = "a name of TensorFlow Datasets, as fashion_mnist. For images of your own in "
        of_tfds += "folders by class: --source=raw --dataset=image_folder"
        wanted = of_tfds if source == "tfds" else of_raw
        raise InputError(f"--source={source} expects --dataset, {wanted}.")
    elif source == "raw" and dataset not in RAW:
        raise InputError(
            f"--dataset with --source=raw: expected {of_raw}. Received: {dataset}. "
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
        advice = f"Add --dataset={name}, or choose" if source in ANY else "Choose"
        raise InputError(
            f"--name: {name} is a known dataset, whose images would be expected under that name. "
            f"{advice} another."
        )


def _check_options(
    dataset: str | None,
    source: str,
    raw_dir: pathlib.Path | None,
    name: str | None,
    keys: dict[str, str | None],
    reading: Reading,
    shrink: int,
) -> None:
    """Raise InputError if an option is missing or out of bounds, or would do nothing."""
    if source != "tfds" and not raw_dir:
        kind = {"arrays": "the npz file", "parquet": "the Parquet files, or their directory"}
        wanted = kind.get(source, "the directory of the raw files")
        raise InputError(f"--source={source} expects --raw_dir, {wanted}.")
    # The reader of arrays or Parquet files says itself what it misses.
    if raw_dir and source not in ANY and not raw_dir.is_dir():
        what = "is no directory" if raw_dir.exists() else "does not exist"
        advice = " Unpack it first." if raw_dir.is_file() else ""
        raise InputError(
            f"--raw_dir={raw_dir} {what}: expected the directory of the raw files.{advice}"
        )
    if shrink < 1:
        raise InputError(f"--shrink: expected a whole number, at least 1. Received: {shrink}")
    if not 1 <= reading.white <= WHITE:
        raise InputError(
            f"--white_level: expected a number from 1 to {WHITE}. Received: {reading.white}"
        )
    useless = {f"--{key}": value and source != "parquet" for key, value in keys.items()}
    useless["--skip_bad"] = reading.skip_bad and source == "tfds"
    useless["--shrink"] = shrink > 1 and source == "tfds"
    for flag, is_useless in useless.items():
        if is_useless:
            raise InputError(f"{flag} does nothing with --source={source}: leave it out.")
    if shrink > 1 and name in (None, dataset):
        raise InputError(
            f"--shrink={shrink} makes another dataset: give it a --name, as {dataset}_small."
        )
    files = source == "parquet" or dataset in ("image_folder", "imagenet2012")
    if reading.white != WHITE and (source in ("tfds", "arrays") or not files):
        raise InputError(
            "--white_level does nothing without files of images, as of --dataset=image_folder or "
            "--source=parquet: leave it out."
        )


def _check_target(target: pathlib.Path, overwrite: bool, raw_dir: pathlib.Path | None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not any(target.glob("*/dataset_info.json")):
        raise InputError(
            f"{target} exists and is no directory of a prepared dataset, so it will not be "
            "replaced. Choose another --name or --data_dir."
        )
    if not overwrite:
        raise InputError(f"{target} exists already. To make it again, add --overwrite.")
    if raw_dir and any(
        pathlib.Path(place).resolve().is_relative_to(target.resolve())
        for place in str(raw_dir).split(",")
    ):
        raise InputError(f"--overwrite would remove --raw_dir={raw_dir}, which lies in {target}.")


def _read(
    dataset: str | None,
    source: str,
    path: pathlib.Path,
    keys: dict[str, str | None],
    reading: Reading,
) -> raw.Sources:
    """Return the Sources in the files of a source; they have a training split."""
    if source == "raw":
        assert dataset, "_check_names asks for it."
        return RAW[dataset](path, reading)
    if source == "arrays":
        sources = arrays.read(path, known=dataset, skip_bad=reading.skip_bad)
    else:
        small = 0 if dataset == "imagenet2012" else SMALL
        sources = parquet.read(path, known=dataset, small=small, reading=reading, **keys)
    if shape := SHAPES.get(dataset or ""):
        for split, data in sources.items():
            found = getattr(next(data.examples())[1], "shape", "files of other sizes")
            if found != shape:
                raise InputError(
                    f"{path}: expected images {shape} in the {split} split of {dataset}. Found: "
                    f"{found}. Call a dataset of your own by --name, without --dataset."
                )
    return sources


def _check_counts(name: str, sources: raw.Sources, raw_dir: pathlib.Path, *, fewer: bool) -> None:
    """Raise InputError unless every split has its known number of examples, or perhaps fewer."""
    for split, count in COUNTS.get(name, {}).items():
        found = sources[split].count if split in sources else 0
        if found > count or (found < count and not fewer):
            raise InputError(
                f"{raw_dir}: expected {count} examples in the {split} split of {name}. Found: "
                f"{found}. Are the files of the two splits swapped?"
            )


@contextlib.contextmanager
def _aside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a directory beside `target` to write into; it is gone afterwards, whatever happens.

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
    with (
        tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
        ) as aside,
        open(pathlib.Path(aside) / ".lock", "a") as file,
    ):
        with contextlib.suppress(OSError):  # a file system without locks
            filelock.lock_descriptor(file.fileno(), blocking=False)
        yield pathlib.Path(aside)


def _tell(path: pathlib.Path, name: str) -> None:
    """Tell which classes of a prepared dataset have no images, and which images it holds twice.

    The dataset is complete: an error here only means that the check could not be made.
    """
    try:
        fields, _ = find_fields(path)
        names = read_class_names(path, fields.label_key)
        if len(names) != fields.classes:
            names = list(map(str, range(fields.classes)))
        census.of_records(read_splits(path), fields, names).tell(name)
    except Exception as error:  # whatever another version of TFDS has written
        console.say(
            f"{name} is prepared, but could not be checked for classes without images and for "
            f"equal images: {error}"
        )


def describe(path: pathlib.Path, dataset: str) -> list[str]:
    """Return lines that say what the dataset in a directory holds, and how to train on it.

    Args:
        path: of the dataset's version.
        dataset: its name below the data directory.

    Raises:
        InputError: a network cannot be trained on it.
    """
    splits = {name: split.examples for name, split in read_splits(path).items() if split.examples}
    fields, others = find_fields(path)
    counts = ", ".join(f"{name} {count}" for name, count in splits.items())
    names = read_class_names(path, fields.label_key)
    classes = f"{fields.classes} classes{': ' if names else ''}{shortened(names)}."
    lines = [f"{counts} examples; images {fields.size} {fields.dtype}; {classes}"]
    if others:
        lines.append(f"Other labels, for --label_key: {', '.join(others)}.")

    flags = {"dataset": str(path.parent)}
    if dataset in DATASETS:
        flags = {"dataset": dataset, "data_dir": str(path.parents[dataset.count("/") + 1])}
    train = "train" if "train" in splits else next(iter(splits), "train")
    flags["train_split"] = train
    if usual_test(splits, DATASETS.get(dataset, USERS_OWN).evaluation) in (None, train):
        flags["test_fraction"] = "0.1"
        lines.append("It has no test split: --test_fraction holds out a part of the training.")
    flags |= {"image_key": fields.image_key, "label_key": fields.label_key}
    given = [f"--{name}={value}" for name, value in flags.items() if value != USUAL.get(name)]
    return [*lines, f"Train on it: python -m lottery_tf.imp {shlex.join(given)}"]
