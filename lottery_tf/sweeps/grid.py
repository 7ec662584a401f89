"""Reads a study, which is a flag file with a grid, and checks it. No TensorFlow.

    --flagfile=../lenet.cfg
    --optimizer=momentum
    --grid=batch_size=60,512
    --grid=seed=0,1,2

Each combination of values is a point: a plain run of `python -m lottery_tf.imp`, in a directory of
its own.
"""

import dataclasses
import difflib
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import flags

from lottery_tf import datasets
from lottery_tf.config import Config, command
from lottery_tf.config.constraints import check_batch, check_given, check_new
from lottery_tf.config.flag_files import find_flag_file, included, read_flag_file, read_lines
from lottery_tf.errors import InputError
from lottery_tf.loop.round_0 import check_other_runs
from lottery_tf.pruning import collapse
from lottery_tf.runs.rundir import METRICS, RunDir

Path = pathlib.Path
# {flags that vary together: a text for each of them, for each step; "" leaves a flag out}
Axes = dict[tuple[str, ...], list[tuple[str, ...]]]
FIELDS = {field.name: field for field in dataclasses.fields(Config)}
OF_STUDY = re.compile(r"--?(grid|zip|bases|runs)=(.*)")  # lines that are not flags of a run


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a study."""

    name: str  # of its directory: the axes in order, as "batch_size=60_seed=0"
    directory: Path  # its run directory
    flags: dict[str, Any]  # {flag: value} of the axes that do not leave it at its base value
    config: Config
    command: tuple[str, ...]  # the arguments of the command that makes this run alone

    def finished_rounds(self) -> int:
        """Return the number of finished rounds; raise InputError if one of them is missing."""
        return RunDir(self.directory).finished_rounds()

    def is_finished(self) -> bool:
        """Return whether the run has all its rounds, or ended as nothing was left to prune."""
        finished = self.finished_rounds()
        if not finished or finished >= self.config.rounds:
            return bool(finished)
        (row,) = RunDir(self.directory).table(finished - 1, METRICS)
        return collapse.NOT_PRUNABLE in collapse.parse(row.get("collapse"))


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs."""

    path: Path  # its flag file
    runs: Path  # the directory that holds the run directories
    axes: tuple[tuple[str, ...], ...]  # the flags of each axis, in order
    points: tuple[Point, ...]  # the last axis varies fastest


def read(flag_file: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read the Study that a flag file describes.

    Args:
        flag_file: its path; flags/<name> is also looked for in the package.
        overrides: further lines, as --epochs=3 or --grid=seed=0, that win over those of the file.

    Raises:
        InputError: a file cannot be read, or lines, axes or points are wrong; it lists all faults.
    """
    lines = _read_lines(Path(flag_file), overrides)
    points: list[Point] = []
    wrong: dict[str, list[str]] = {}  # {message: names of the points that it is about}
    idle: dict[str, list[str]] = {}  # {flag without effect in some points: why, for each}
    bases: list[Path | None] = [*lines.bases] or [None]
    for base, texts in itertools.product(bases, _combinations(lines.axes)):
        stem = [base.stem] if base else []
        # Tools split lists of paths at commas.
        words = {flag: command.in_name(text).replace(",", "+") for flag, text in texts.items()}
        name = "_".join([*stem, *(f"{flag}={word}" for flag, word in words.items())])
        try:
            point, unheeded = _point(name, base, lines, texts)
        except (InputError, flags.Error) as error:
            wrong.setdefault(str(error), []).append(name)
            continue
        points.append(point)
        for flag, message in unheeded.items():
            idle.setdefault(flag, []).append(message)
    given = {_flag_of(line) for line in overrides}
    faults = []
    for message, names in wrong.items():
        more = f", and {len(names) - 1} more" if len(names) > 1 else ""
        faults.append(f"{names[0]}{more}: {message}")
    faults += [why[0] for flag, why in idle.items() if flag in given and len(why) == len(points)]
    _refuse(lines.path, faults + _doubles(points))
    return Study(lines.path, lines.runs, tuple(lines.axes), tuple(points))


def check(study: Study) -> None:
    """Check the data and the run directories of a study, before any run starts.

    Raises:
        InputError: something is wrong; the message lists the first fault of each point.
    """
    if (study.runs / "config.json").exists():
        raise InputError(
            f"--runs={study.runs}: expected a directory of runs. Received a run directory: name "
            "another."
        )
    faults = []
    for point in study.points:
        try:
            examples = datasets.find(point.config).splits["train"].examples
            check_batch(point.config, examples)
            check_other_runs(point.config)
            run = RunDir(point.directory)
            if (run.path / "config.json").exists():  # whether it is in use is found out later
                run.refuse_other_flags(point.config)
                point.is_finished()
            else:
                check_new(point.config)
                run.check(point.config)
        except InputError as error:
            faults.append(f"{point.name}: {error}")
    _refuse(study.path, faults)


def _refuse(path: Path, faults: Iterable[str]) -> None:
    """Raise InputError with the faults of a study, if there are any."""
    if lines := [f"  {line}" for line in faults]:
        raise InputError("\n".join([f"{path} cannot run as a study:", *lines]))


# Points ---------------------------------------------------------------------------------------


def _point(
    name: str, base: Path | None, lines: "_Lines", texts: dict[str, str]
) -> tuple[Point, dict[str, str]]:
    """Return a Point, and {flag of the study that has no effect in it: why}."""
    directory = lines.runs / name
    files = [*lines.files, *([base] if base else [])]
    named = [f"--flagfile={_from_here(file)}" for file in files]
    varied = [f"--{flag}={text}" for flag, text in texts.items()]
    config = _parse([*named, *lines.flags.values(), *varied, f"--run_dir={directory}"])
    check_given(config, set(texts))
    heeded, unheeded = [], {}
    for flag, line in lines.flags.items():
        try:
            check_given(config, {flag})
            heeded.append(line)
        except InputError as error:
            unheeded[flag] = str(error)
    arguments = [*named, *heeded, *varied, f"--run_dir={directory}"]
    config = _parse(arguments)
    values = {flag: getattr(config, flag) for flag in texts}
    words = ("python", "-m", "lottery_tf.imp", *arguments)
    return Point(name, directory, values, config, words), unheeded


def _parse(arguments: list[str]) -> Config:
    values = flags.FlagValues()
    command.define_config_flags(values)
    return command.parse_given(["lottery_tf.imp", *arguments], values)[0]


def _from_here(path: Path) -> Path:
    """Return a path as a user would write it in the current directory."""
    plain, here = Path(os.path.normpath(path)), Path.cwd()
    return plain.relative_to(here) if plain.is_relative_to(here) else plain


def _doubles(points: Iterable[Point]) -> list[str]:
    """Return the faults of points that have the name or the flags of an earlier one."""
    names: dict[str, Point] = {}
    made: dict[Config, Point] = {}
    faults = []
    for point in points:
        if names.setdefault(point.name, point) is not point:
            faults.append(f"{point.name}: two points have this name.")
            continue
        same = made.setdefault(dataclasses.replace(point.config, run_dir=""), point)
        if same is not point:
            faults.append(f"{point.name}: the same run as {same.name}.")
    return faults


# Lines of the flag file -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Lines:
    """The parsed lines of a study."""

    path: Path
    files: list[Path]  # the flag files of every run
    bases: list[Path]  # those that vary
    axes: Axes
    runs: Path  # the directory that holds the run directories
    flags: dict[str, str]  # {flag: its line} of every run


def _read_lines(path: Path, overrides: Sequence[str]) -> _Lines:
    path = find_flag_file(Path(os.path.expanduser(path)))
    files, lines = _expand(path, ())
    bases: list[str] = []
    runs = f"runs/{path.stem}"
    axes: Axes = {}  # a later axis replaces one of the same flags
    flag_lines: dict[str, str] = {}
    faults = []
    for line in [*lines, *overrides]:
        kind, text = match.groups() if (match := OF_STUDY.fullmatch(line)) else ("", "")
        try:
            if kind == "runs":
                runs = text
            elif kind == "bases":
                bases = text.split(",")
            elif kind:
                parts = text.split(";") if kind == "zip" else [text]
                flag_names, rows = _parse_axis(f"--{kind}={text}", parts)
                axes[flag_names] = rows
            else:
                _check_name(line, _flag_of(line))
                flag_lines[_flag_of(line)] = line
        except InputError as error:
            faults.append(str(error))
    names = [name for names in axes for name in names]
    faults += [
        f"{flag_lines[name]}: --grid or --zip varies {name}, too. Leave one of them out."
        for name in names
        if name in flag_lines
    ]
    faults += [
        f"Expected each flag in one --grid or --zip. Received twice: {name}"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    if not (axes or bases or faults):
        faults.append("expected what to vary, as --grid=seed=0,1,2. Received none.")
    _refuse(path, faults)
    found = [_find_base(path, name.strip()) for name in bases]
    return _Lines(path, files, found, axes, Path(os.path.expanduser(runs)), flag_lines)


def _expand(path: Path, including: tuple[Path, ...]) -> tuple[list[Path], list[str]]:
    """Return the plain flag files that a file is or includes, and the lines of studies in it."""
    if not any(OF_STUDY.fullmatch(line) for line in read_flag_file(path, including)):
        return [path], []
    files: list[Path] = []
    lines: list[str] = []
    for line in read_lines(path, including):
        if inner := included(path, line):
            inner_files, inner_lines = _expand(inner, (*including, path))
            files += inner_files
            lines += inner_lines
        else:
            lines.append(line)
    return files, lines


def _find_base(path: Path, name: str) -> Path:
    """Return the flag file of a name in --bases, beside the study or in flags/."""
    beside = path.parent / name
    return beside if beside.exists() else find_flag_file(Path("flags") / name)


def _parse_axis(line: str, parts: list[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the item of Axes of a --grid or --zip with these parts, each as "seed=0,1,2".

    Raises:
        InputError: a part has another form or an unknown flag, or the parts do not fit together.
    """
    columns = []  # (flag, its values)
    for part in parts:
        name, equals, values = part.strip().partition("=")
        if not equals or not values.replace(",", "").strip():
            raise InputError(f"{line}: expected a flag and its values, as seed=0,1,2.")
        _check_name(line, name)
        texts = [value.strip() for value in values.split(",")]
        if isinstance(FIELDS[name].default, tuple):  # whose own values are separated by commas
            texts = [text.replace("+", ",") for text in texts]
        columns.append((name, texts))
    if len({len(texts) for _, texts in columns}) > 1 or len(dict(columns)) < len(columns):
        received = ", ".join(f"{len(texts)} of {name}" for name, texts in columns)
        raise InputError(
            f"{line}: expected different flags with equally many values. Received: {received}"
        )
    return tuple(name for name, _ in columns), list(zip(*(of for _, of in columns), strict=True))


def _combinations(axes: Axes) -> Iterator[dict[str, str]]:
    """Yield {flag: text} for every combination of steps along the axes, without empty texts."""
    for steps in itertools.product(*axes.values()):
        pairs = zip(itertools.chain(*axes), itertools.chain(*steps), strict=True)
        yield {name: text for name, text in pairs if text}


def _flag_of(line: str) -> str:
    """Return the name of the flag that a line sets."""
    name = line.lstrip("-").partition("=")[0]
    return name.removeprefix("no") if name not in FIELDS and name[2:] in FIELDS else name


def _check_name(line: str, name: str) -> None:
    """Raise InputError if the name in a line of a study is not a flag that a study may set."""
    if name in FIELDS and name != "run_dir":
        return
    like = difflib.get_close_matches(name, FIELDS.keys() - {"run_dir"}, 1)
    hint = f" Did you mean {like[0]}?" if like else ""
    if name == "run_dir":
        hint = " Each run has its own, below --runs."
    raise InputError(
        f"{line}: expected flags of an experiment, as python -m lottery_tf.imp --help lists them. "
        f"Received: {name}.{hint}"
    )
