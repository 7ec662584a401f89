"""Downloads and prepares a dataset by TensorFlow Datasets' own builder."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds

from lottery_tf.datasets import catalog, usage
from lottery_tf.errors import InputError

REACH_SECONDS = 10.0  # in which a server must answer; TFDS itself tries for minutes


def check(name: str, manual_dir: pathlib.Path | None) -> None:
    """Checks what a dataset is, before anything is written.

    Args:
        name: as catalog.full_name gives it.

    Raises:
        InputError: it is none of images and labels, it wants a manual_dir and there is none, or
            there is one that it does not read.
    """
    with tempfile.TemporaryDirectory() as empty, _naming(name, "Is it installed whole?"):
        builder = tfds.builder(name, data_dir=empty)
        catalog.check_kind(name, builder.info)
        builder.info.write_to_directory(empty)
        try:
            usage.fields(pathlib.Path(empty))
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
    """Prepares data_dir / name, of the files in manual_dir where TFDS expects such.

    Args:
        name: as catalog.full_name gives it; checked by `check`.
        advice: how else to come by the dataset, for the message of an error.

    Raises:
        InputError: there is no way to a server, or the download or the files are damaged.
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
def _naming(name, advice):
    """Turns what goes wrong in a builder into an InputError with its name."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each of its hundreds of builders raises what it likes
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"TensorFlow Datasets could not prepare {name}: {reason}. {advice}"
        ) from error


def _check_reach(urls):
    """Raises OSError unless each server of the URLs answers, be it with an error of its own."""
    for url in {url.split("/")[2]: url for url in urls if url.startswith("http")}.values():
        try:
            requests.head(url, timeout=REACH_SECONDS)
        except requests.exceptions.RequestException as error:
            host = url.split("/")[2]
            raise OSError(f"{host} cannot be reached ({_cause(error)})") from None


def _cause(error):
    """What lies at the bottom of an error of requests, which wraps it several times."""
    while isinstance(error, Exception):
        cause = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(cause, Exception):
            break
        error = cause
    return str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def own_temporaries() -> Iterator[None]:
    """Removes what TFDS leaves in the directory of temporary files."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as own:
        tempfile.tempdir = own
        try:
            yield
        finally:
            tempfile.tempdir = before
