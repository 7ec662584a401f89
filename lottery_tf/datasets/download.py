"""Downloads and prepares a dataset by TensorFlow Datasets' own builder."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds

from lottery_tf.errors import InputError

REACH_SECONDS = 10.0  # in which a server must answer; TFDS itself tries for minutes
ERRORS = (
    OSError,  # no connection, disk full
    AssertionError,  # the manual directory lacks a file
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
    tfds.download.extractor.ExtractError,
)


def download(name: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> None:
    """Prepares data_dir / name, of the files in manual_dir where TFDS expects such.

    Raises:
        InputError: there is no way to a server, or the download or the files are damaged.
    """
    try:
        with own_temporaries():
            builder = tfds.builder(name, data_dir=str(data_dir))
            if builder.MANUAL_DOWNLOAD_INSTRUCTIONS is None:
                _check_reach(builder.url_infos)
            builder.download_and_prepare(
                download_dir=str(data_dir / "downloads"),
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
            )
    except ERRORS as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"TensorFlow Datasets could not prepare {name}: {reason}. If you have its raw files, "
            "use --source=raw --raw_dir=<their directory>."
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
