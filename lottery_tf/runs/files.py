"""Files that are seen whole or not at all, and the formats of a run. NumPy and stdlib only."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from lottery_tf.datasets.names import is_file_name
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array

T = TypeVar("T")
SUMS = "SHA256SUMS"
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?")
ASIDE = (".*.aside", ".*.tmp")  # names of what is being written, or was when a process was killed
SETTLED = 1.0  # seconds since the last change, after which a further one shows in the times
_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # {path: (state of the file, SHA-256)}
OLD = 3600.0  # seconds since the last change, after which no process writes it any more
# What fsync raises for a directory where the file system has no such thing.
NO_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def write_directory(path: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Write {file name: bytes} as a directory with a SHA256SUMS, all of it or nothing.

    Of a file of another such directory its Path stands for the bytes: it becomes a hard link or,
    where that cannot be, a copy, and is checked against the other's SHA256SUMS.
    """
    aside = _aside(path, "tmp")
    try:
        aside.mkdir()
        sums = ""
        for name, content in contents.items():
            if isinstance(content, Path):
                try:
                    os.link(content, aside / name)
                except OSError:  # another file system, or one without links
                    write(aside / name, content.read_bytes())
                with open(aside / name, "rb") as file:
                    digest = _digest(file).hexdigest()
                _compare(content, digest)
            else:
                write(aside / name, content)
                digest = hashlib.sha256(content).hexdigest()
            sums += f"{digest}  {name}\n"
        write(aside / SUMS, sums.encode())
        sync(aside)
        os.rename(aside, path)
        sync(path.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"Cannot save {path}: {error.strerror}.") from error
        raise


def _digest(file: IO) -> "hashlib._Hash":
    """Hash an open file piece by piece; hashlib.file_digest is new in Python 3.11."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest


def names(path: Path) -> list[str]:
    """Return the files of a directory with a SHA256SUMS, in its order.

    Raises:
        InputError: it cannot be read.
    """
    try:
        lines = (path / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path / SUMS}: {error}.") from None
    found = [line.partition("  ")[2] for line in lines]
    if odd := [name for name in found if not is_file_name(name)]:
        raise InputError(f"{path / SUMS}: expected names of files beside it. Found: {odd[0]!a}")
    return found


def read_checked(path: Path) -> bytes:
    """Return the bytes of a file, checked against the SHA256SUMS beside it.

    Raises:
        InputError: the file or its checksum cannot be read, or do not match.
    """
    return _checked(path, lambda file: file.read(), hashlib.sha256)


def check(path: Path) -> None:
    """Raise InputError as `read_checked`, without holding the file in memory."""
    _checked(path, lambda file: file, _digest)


def _checked(path: Path, read: Callable[[IO], T], digest: Callable[[T], "hashlib._Hash"]) -> T:
    """Return what `read` gives of an open file, after a check of `digest` of that.

    A process computes the digest of a file once, until the file is written or another one takes its
    place. That of a file that was written just now is not kept: times may be too coarse to show the
    next change.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            content = read(file)
            before, known = _digests.get(path, (None, ""))
            if before != state:
                known = digest(content).hexdigest()
                if time.time() - found.st_ctime > SETTLED:
                    _digests[path] = state, known
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    _compare(path, known)
    return content


def _compare(path: Path, digest: str) -> None:
    try:
        sums = (path.parent / SUMS).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror}.") from None
    if f"{digest}  {path.name}\n".encode() not in sums:
        raise InputError(f"{path} is damaged: it does not match {SUMS}.")


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under another name, then renames it: it is never seen half written.

    Several processes may write the same file: it then holds what one of them wrote.
    """
    aside = _aside(path, "aside")
    try:
        write(aside, content)
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of which a full disk tells no name
            error.filename, error.filename2 = str(path), None
        raise
    sync(path.parent)


def _aside(path: Path, ending: str) -> Path:
    """Return a hidden name beside `path` that no other process or thread uses."""
    # A name may have 255 bytes; a character of the old one has up to 4.
    return path.with_name(f".{path.name[:40]}.{os.getpid()}_{os.urandom(6).hex()}.{ending}")


def remove_leftovers(directory: Path, *, held: bool = True) -> None:
    """Remove what killed processes left half written in a directory.

    Directories in one that this process holds go at once. Anything else may be what a tool, which
    holds nothing, is writing: it goes when it is old.
    """
    for leftover in (path for pattern in ASIDE for path in directory.glob(pattern)):
        with contextlib.suppress(OSError):
            is_directory = leftover.is_dir()
            if not (held and is_directory) and time.time() - leftover.stat().st_mtime < OLD:
                continue
            shutil.rmtree(leftover) if is_directory else leftover.unlink()


def lock(file: IO, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return whether this process now holds it.

    With `wait` it waits while another process holds it.

    Raises:
        InputError: the file system has no locks.
    """
    import filelock  # here: `--help` needs none

    try:
        return filelock.lock_descriptor(file.fileno(), blocking=wait)
    except OSError as error:
        raise InputError(
            f"Cannot lock {file.name}: {error.strerror}. Expected a file system with locks "
            "(flock). Use a directory on another one, or mount this one with locks."
        ) from None


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Wait until no other process holds a directory, and hold it.

    Where the file system has no locks, or the directory cannot be written, nothing is held.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, InputError):
            lock(stack.enter_context(open(directory / ".lock", "a")), wait=True)
        yield


def write(path: Path, content: bytes) -> None:
    """Write bytes, and wait until the disk has them."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC or not path.is_dir():
            raise


def read_object(path: Path, advice: str, kind: type = object) -> dict[str, Any] | None:
    """Return {key: value, each a `kind`} that a JSON file holds; None if there is no file.

    Raises:
        InputError: it cannot be read, or holds something else; `advice` says why to remove it.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, kind) for value in found.values()):
        raise InputError(f"{path} is damaged. Restore it, or remove it, {advice}.")
    return found


def format_npz(arrays: Mapping[str, Array], *, compressed: bool = False) -> bytes:
    """Return {path: array} as the bytes of an npz file.

    They are the bytes of np.savez, or np.savez_compressed. These take their arrays as keyword
    arguments: a version of NumPy makes an array of an argument that it does not know, as versions
    before 2.2 do of allow_pickle, and an array cannot have the name of one that it knows.

    Raises:
        ValueError: an array holds Python objects.
    """
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def is_left_over(name: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Return whether an array of an npz file is an argument that NumPy took for an array.

    Our older versions passed allow_pickle=False to np.savez, which NumPy knows from 2.2 on.
    """
    return name == "allow_pickle" and shape == () and dtype.kind == "b"


def parse_npz(content: bytes) -> dict[str, Array]:
    """Return {path: array} of the bytes of an npz file; nothing in it is executed.

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
        raise InputError(f"expected an npz file of arrays ({error}).") from error
    return {n: a for n, a in arrays.items() if not is_left_over(n, a.shape, a.dtype)}


def format_npy(array: Array) -> bytes:
    """Return an array as the bytes of an npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def parse_npy(content: bytes) -> Array:
    """Return the array of the bytes of an npy file; nothing in it is executed.

    Raises:
        InputError: it is no npy file.
    """
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy raises a dozen kinds
        raise InputError(f"expected an npy file ({error}).") from error


def format_csv(rows: list[Row]) -> bytes:
    """Records {column: value} as the bytes of a CSV file with a header; a NaN is an empty cell."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # x != x holds for NaN alone
        writer.writerow({column: "" if value != value else value for column, value in row.items()})
    return text.getvalue().encode(errors="replace")  # a file name may hold bytes that are no text


def parse_csv(content: bytes) -> list[Row]:
    """Records {column: number or text} of the bytes of a CSV file.

    A number is what `format_csv` writes of one. What Python takes for a number beyond that, as
    1_000 or Infinity, is text. An empty cell is a NaN.

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


def _number(text: str) -> float | int | str:
    if not text:
        return math.nan
    if text not in ("inf", "-inf") and not NUMBER.fullmatch(text):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)
