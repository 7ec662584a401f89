"""Downloads and prepares datasets of TensorFlow Datasets, by their names."""

import contextlib
import difflib
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import tensorflow_datasets as tfds

from lottery_tf.datasets import layout
from lottery_tf.errors import InputError

NAME = re.compile(r"\w+(/[\w.+-]+)?")
NEAR = 5  # names to suggest
REACH_SECONDS = 10.0  # in which a server must answer; TFDS itself tries for minutes


def full_name(name: str) -> str:
    """Return the name of a dataset with its configuration, as emnist/byclass, if it has several.

    Raises:
        InputError: there is no such dataset, or no such configuration of it; it suggests others.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            "--dataset: expected a name of TensorFlow Datasets, as fashion_mnist or "
            f"emnist/letters. Received: {name}"
        )
    name, _, chosen = name.partition("/")
    names = set(tfds.list_builders(with_community_datasets=False))
    if name not in names:
        near = _near(name, names) or "none; its page of datasets lists all"
        raise InputError(
            f"--dataset: TensorFlow Datasets has no {name}. Names like it: {near}. For files of "
            "your own: --source=raw, arrays or parquet."
        )
    try:
        builder = tfds.builder_cls(name)
    except Exception as error:  # its module may need a package that is missing
        raise InputError(f"TensorFlow Datasets cannot load {name}: {error}.") from error
    configs = {config.name: config for config in builder.BUILDER_CONFIGS}
    if not configs and not chosen:
        return name
    if chosen and chosen not in configs:
        some = _near(chosen, configs) or ", ".join([*configs][:NEAR]) or "none"
        raise InputError(
            f"--dataset: {name} has no configuration {chosen}. Some that it has: {some}."
        )
    default = getattr(builder, "DEFAULT_BUILDER_CONFIG_NAME", None) or next(iter(configs))
    return f"{name}/{chosen or default}"


def _near(name: str, names: Iterable[str]) -> str:
    """Return names with this one in them, or of nearly the same letters."""
    inside = sorted(other for other in names if name in other)
    near = [*inside, *difflib.get_close_matches(name, names, NEAR)]
    return ", ".join(list(dict.fromkeys(near))[:NEAR])


def check_kind(name: str, info: Any) -> None:
    """Raise InputError unless the examples of a tfds.core.DatasetInfo have an image and a label.

    The images may be a Tensor, if TensorFlow Datasets itself calls them what is to be classified.
    """
    features = info.features
    fields = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = tfds.features.Image, tfds.features.ClassLabel
    # A video, or a sequence of labels, is of another class, which derives from neither.
    kinds = {type(feature) for feature in fields.values()}
    pair = info.supervised_keys or (None, None)
    pixels: Any = fields.get(pair[0]) if isinstance(pair[0], str) else None
    is_tensor = type(pixels) is tfds.features.Tensor and len(pixels.shape) == 3
    if label in kinds and (image in kinds or is_tensor):
        return
    found = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in fields.items())
    raise InputError(
        f"--dataset: {name} is not image classification: expected an image (Image) and a label "
        f"(ClassLabel) in each example. TensorFlow Datasets gives: "
        f"{found or type(features).__name__}."
    )


def check(name: str, manual_dir: pathlib.Path | None) -> None:
    """Check what a dataset is, before anything is written.

    Args:
        name: as full_name gives it.
        manual_dir: the files that were downloaded by hand.

    Raises:
        InputError: it is none of images and labels, it wants a manual_dir and there is none, or
            there is one that it does not read.
    """
    with tempfile.TemporaryDirectory() as empty, _naming(name, "Is it installed whole?"):
        builder = tfds.builder(name, data_dir=empty)
        check_kind(name, builder.info)
        builder.info.write_to_directory(empty)
        try:
            layout.find_fields(pathlib.Path(empty))
        except InputError as error:
            raise InputError(str(error).replace(empty, name)) from None
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not manual_dir:
        wanted = " ".join(instructions.split()).rstrip(".")
        raise InputError(
            f"TensorFlow Datasets does not download {name}. Put its files into a directory and "
            f"name that by --raw_dir. It says: {wanted}."
        )
    if manual_dir and not instructions:
        raise InputError(
            f"--raw_dir does nothing for {name} with --source=tfds, which downloads it: leave "
            "--raw_dir out, or add --source=raw, arrays or parquet."
        )


def download(
    name: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, *, advice: str
) -> None:
    """Prepare data_dir / name; name and manual_dir passed `check`, `advice` ends messages.

    Raises:
        InputError: no server can be reached, or the download or the files are damaged.
    """
    with _naming(name, advice), own_temporaries():
        builder = tfds.builder(name, data_dir=str(data_dir), file_format="tfrecord")
        if not manual_dir:
            _check_reach(builder.url_infos or {})
        builder.download_and_prepare(
            download_dir=str(data_dir / "downloads"),
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
        )


@contextlib.contextmanager
def _naming(name: str, advice: str) -> Iterator[None]:
    """Turn what goes wrong in a builder into an InputError with its name."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each of its hundreds of builders raises what it likes
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"TensorFlow Datasets could not prepare {name}: {reason}. {advice}"
        ) from error


def _check_reach(urls: Iterable[str]) -> None:
    """Raise OSError unless each server of the URLs answers, be it with an error of its own."""
    for host, url in {url.split("/")[2]: url for url in urls if url.startswith("http")}.items():
        try:
            requests.head(url, timeout=REACH_SECONDS)
        except requests.exceptions.RequestException as error:
            inner: object = error  # requests wraps the cause several times
            cause: Exception = error
            while isinstance(inner, Exception):
                cause, inner = inner, getattr(inner, "reason", None) or next(iter(inner.args), None)
            reason = str(cause).rpartition(": ")[2].rstrip(".") or type(cause).__name__
            raise OSError(f"{host} cannot be reached ({reason})") from None


@contextlib.contextmanager
def own_temporaries() -> Iterator[None]:
    """Remove what TFDS leaves in the directory of temporary files."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as own:
        tempfile.tempdir = own
        try:
            yield
        finally:
            tempfile.tempdir = before
