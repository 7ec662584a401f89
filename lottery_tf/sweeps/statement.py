"""What the flag file of a study says: base flag files, axes, and flags of every run."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from lottery_tf.config.flag_files import find_flag_file, included, read_flag_file, read_lines
from lottery_tf.errors import InputError
from lottery_tf.sweeps.axes import FIELDS, Axis, check_name, merge, parse_grid, parse_zip

Path = pathlib.Path
OF_STUDY = re.compile(r"--?(grid|zip|bases|runs)=(.*)")  # what no single run takes
AXES = {"grid": parse_grid, "zip": parse_zip}


@dataclasses.dataclass(frozen=True)
class Statement:
    """What a study says.

    Args:
        path: its flag file.
        files: the flag files of every run.
        bases: flag files that are varied; none where the study has no --bases.
        axes: what is varied.
        runs: the directory that holds the run directories.
        flags: {flag: its line} of every run.
    """

    path: Path
    files: list[Path]
    bases: list[Path]
    axes: list[Axis]
    runs: Path
    flags: dict[str, str]


def read_statement(path: Path, overrides: Sequence[str]) -> Statement:
    """The Statement of a flag file, with further lines that win over its own.

    Raises:
        InputError: a file that cannot be read, or all that is wrong with the lines.
    """
    path = find_flag_file(Path(os.path.expanduser(path)))
    files, lines = _expand(path, ())
    found: dict[str, list[str]] = {"grid": [], "zip": [], "bases": [], "runs": []}
    axes, flag_lines, wrong = [], {}, []
    for line in [*lines, *overrides]:
        try:
            if not (match := OF_STUDY.fullmatch(line)):
                check_name(line, flag_of(line))
                flag_lines[flag_of(line)] = line
            elif match[1] in AXES:
                axes.append(AXES[match[1]](match[2]))
            else:
                found[match[1]].append(match[2])
        except InputError as error:
            wrong.append(str(error))
    merged = merge(axes)
    names = [name for axis in merged for name in axis.names]
    wrong += [f"{flag_lines[name]}: {name} is varied, by --grid or --zip; leave one of them out."
              for name in names if name in flag_lines]  # fmt: skip
    wrong += [f"Expected each flag in one --grid or --zip. Received twice: {name}"
              for name in sorted(set(names)) if names.count(name) > 1]  # fmt: skip
    bases = found["bases"][-1].split(",") if found["bases"] else []
    if not (merged or bases or wrong):
        wrong.append("expected what to vary, as --grid=seed=0,1,2. Received none.")
    refuse(path, wrong)
    runs = Path(os.path.expanduser([f"runs/{path.stem}", *found["runs"]][-1]))
    return Statement(path, files, [_base(path, b.strip()) for b in bases], merged, runs, flag_lines)


def refuse(path: Path, wrong: Iterable[str]) -> None:
    """Raises InputError if something is wrong with the study of a flag file, with all of it."""
    if lines := [f"  {line}" for line in wrong]:
        raise InputError("\n".join([f"{path} is no study that can run:", *lines]))


def flag_of(line: str) -> str:
    """The flag that a line sets."""
    name = line.lstrip("-").partition("=")[0]
    return name.removeprefix("no") if name not in FIELDS and name[2:] in FIELDS else name


def _expand(path, including):
    """(plain flag files that a file includes, or itself; the lines of it and of studies in it)."""
    if not any(OF_STUDY.fullmatch(line) for line in read_flag_file(path, including)):
        return [path], []
    files, lines = [], []
    for line in read_lines(path, including):
        if inner := included(path, line):
            more = _expand(inner, (*including, path))
            files += more[0]
            lines += more[1]
        else:
            lines.append(line)
    return files, lines


def _base(path, name):
    """The flag file of a name in --bases."""
    beside = path.parent / name
    return beside if beside.exists() else find_flag_file(Path("flags") / name)
