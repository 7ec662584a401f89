"""Flag files: a flag per line, and other flag files in them."""

import codecs
import os
import pathlib
import re

from lottery_tf.datasets import packaged
from lottery_tf.errors import InputError

Path = pathlib.Path


def expand_flag_files(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Put the flags of every --flagfile first, so that the command line always wins.

    A --flagfile inside a flag file is searched beside the including file; flags/<name> on the
    command line is also searched in the package.

    Returns:
        (flags of the files, the other arguments, paths of the files named on the command line).

    Raises:
        InputError: a flag file that does not exist or includes itself.
    """
    others, names = named_flag_files(arguments)
    paths = [find_flag_file(Path(os.path.expanduser(name))) for name in names]
    return [line for path in paths for line in read_flag_file(path)], others, names


def named_flag_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return (other arguments, paths of the flag files) of a command line without its program."""
    others: list[str] = []
    names: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in ("--flagfile", "-flagfile"):
            names.append(next(rest, ""))
        elif match := re.fullmatch(r"--?flagfile=(.*)", argument):
            names.append(match[1])
        else:
            others.append(argument)
    return others, names


def find_flag_file(path: Path) -> Path:
    """Return the path, or flags/<name> of the package where there is no such file."""
    if path.exists() or path.parts[:1] != ("flags",):
        return path
    in_package = packaged("flags").joinpath(*path.parts[1:])
    if not in_package.exists():
        raise InputError(f"There is no flag file {path} here, nor {in_package} in the package.")
    return in_package


def read_flag_file(path: Path, including: tuple[Path, ...] = ()) -> list[str]:
    """Return the flags of a file; those of the files that it includes stand in their places.

    `including` are the files that include it, the outermost first.

    Raises:
        InputError: a file cannot be read, is not text, or includes itself.
    """
    if path in including:
        raise InputError(f"The flag file {path} includes itself, through {including[-1]}.")
    lines = []
    for line in read_lines(path, including):
        if inner := included(path, line):
            lines += read_flag_file(inner, (*including, path))
        else:
            lines.append(line)
    return lines


def included(path: Path, line: str) -> Path | None:
    """Return the flag file that a line of the flag file `path` includes; None of another line."""
    match = re.fullmatch(r"--?flagfile[= ](.*)", line)
    return path.parent / match[1].strip() if match else None


def read_lines(path: Path, including: tuple[Path, ...] = ()) -> list[str]:
    """Return the lines of one flag file, without comments; arguments as of `read_flag_file`."""
    asked_by = f", which {including[-1]} includes" if including else ""
    try:
        content = path.read_bytes()
        # Windows writes a mark first, and PowerShell UTF-16 after it.
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read the flag file {path}{asked_by}: {error.strerror}.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(
            f"The flag file {path}{asked_by} is not text: expected a flag per line, as --rounds=3."
        )
    lines = map(str.strip, text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "//"))]
