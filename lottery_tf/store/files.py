"""Files that are seen whole or not at all, and the formats of a run. NumPy and stdlib only."""

import csv
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.method import Array
from lottery_tf.output import Row

SUMS = "SHA256SUMS"


def write_directory(path: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Writes {file name: bytes} as a directory with a SHA256SUMS, all of it or nothing.

    Of a file of another such directory its Path stands for the bytes: it becomes a hard link or,
    where that cannot be, a copy, and is checked against the other's SHA256SUMS.
    """
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.mkdir()
        sums = ""
        for name, content in contents.items():
            if isinstance(content, Path):
                digest = _take(content, aside / name)
            else:
                write(aside / name, content)
                digest = hashlib.sha256(content)
            sums += f"{digest.hexdigest()}  {name}\n"
        write(aside / SUMS, sums.encode())
        sync(aside)
        os.rename(aside, path)
        sync(path.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise InputError(f"Cannot save {path}: {error.strerror}.") from None
    except InputError:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _take(source, target):
    """Links or copies a file; its digest, which is that of the SHA256SUMS beside the source."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        write(target, source.read_bytes())
    with open(target, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    _compare(source, digest)
    return digest


def names(path: Path) -> list[str]:
    """The files of a directory with a SHA256SUMS, in its order.

    Raises:
        InputError: it cannot be read.
    """
    try:
        lines = (path / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path / SUMS}: {error}.") from None
    return [line.partition("  ")[2] for line in lines]


def read_checked(path: Path) -> bytes:
    """The bytes of a file, checked against the SHA256SUMS beside it.

    Raises:
        InputError: the file or its checksum cannot be read, or do not match.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    _compare(path, hashlib.sha256(content))
    return content


def check(path: Path) -> None:
    """Raises InputError as `read_checked`, without holding the file in memory."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    _compare(path, digest)


def _compare(path, digest):
    try:
        sums = (path.parent / SUMS).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror}.") from None
    if f"{digest.hexdigest()}  {path.name}\n".encode() not in sums:
        raise InputError(f"{path} is damaged: it does not match {SUMS}.")


def write_text(path: Path, text: str) -> None:
    """Writes a text file aside, then renames it: it is never seen half written."""
    aside = path.with_name(f".{path.name}.aside")
    write(aside, text.encode())
    os.rename(aside, path)


def write(path: Path, content: bytes) -> None:
    """Writes bytes, and waits until the disk has them."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def format_npz(arrays: dict[str, Array]) -> bytes:
    """{path: array} as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def parse_npz(content: bytes) -> dict[str, Array]:
    """{path: array} of the bytes of an npz file; nothing in it is executed.

    Raises:
        InputError: it is no npz file of arrays.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                arrays[name.removesuffix(".npy")] = array
    except Exception as error:  # zipfile and NumPy raise a dozen kinds
        raise InputError(f"expected an npz file of arrays ({error}).") from None
    return arrays


def format_csv(rows: list[Row]) -> bytes:
    """Records {column: value} as the bytes of a CSV file with a header; a NaN is an empty cell."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # x != x holds for NaN alone
        writer.writerow({column: "" if value != value else value for column, value in row.items()})
    return text.getvalue().encode()


def parse_csv(content: bytes) -> list[Row]:
    """Records {column: number or text} of the bytes of a CSV file.

    Raises:
        InputError: it is no CSV file, or a row has more or fewer cells than the header.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a CSV file ({error}).") from None
    for row in rows:
        if None in row or None in row.values():
            raise InputError("expected as many cells in each row as in the header.")
    return [{column: _number(text) for column, text in row.items()} for row in rows]


def _number(text):
    for kind in (int, float):
        try:
            return kind(text or "nan")
        except ValueError:
            pass
    return text
