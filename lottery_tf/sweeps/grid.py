"""Studies as flag files: base flags, and a grid of what is varied. No TensorFlow.

    --flagfile=../lenet.cfg
    --optimizer=momentum
    --grid=batch_size=60,512
    --grid=seed=0,1,2

Each combination is a point: a plain run of `python -m lottery_tf.imp`, in a directory of its own.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from lottery_tf.config import Config, command
from lottery_tf.config.constraints import check_given
from lottery_tf.errors import InputError
from lottery_tf.pruning import collapse
from lottery_tf.runs.rundir import METRICS, RunDir
from lottery_tf.sweeps.axes import products
from lottery_tf.sweeps.statement import flag_of, read_statement, refuse

Path = pathlib.Path


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a study.

    Args:
        name: of its directory: the axes in order, as "batch_size=60_seed=0".
        directory: its run directory.
        flags: {flag: value} of the axes; one that the point leaves at its base is left out.
        config: the Config.
        command: the arguments of the command that makes it alone.
    """

    name: str
    directory: Path
    flags: dict[str, Any]
    config: Config
    command: tuple[str, ...]

    def finished_rounds(self) -> int:
        """The number of its finished rounds; InputError if one is missing among them."""
        return RunDir(self.directory).finished_rounds()

    def is_finished(self) -> bool:
        """Whether it has all its rounds, or ended as nothing was left to prune."""
        finished = self.finished_rounds()
        if not finished or finished >= self.config.rounds:
            return bool(finished)
        (row,) = RunDir(self.directory).table(finished - 1, METRICS)
        return collapse.NOT_PRUNABLE in collapse.parse(row.get("collapse"))


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs.

    Args:
        path: its flag file.
        runs: the directory that holds the run directories.
        axes: the flags of each axis, in order.
        points: of the grid, the last axis the fastest.
    """

    path: Path
    runs: Path
    axes: tuple[tuple[str, ...], ...]
    points: tuple[Point, ...]


def read(flag_file: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The Study that a flag file states.

    Args:
        flag_file: its path; flags/<name> is looked for in the package, too.
        overrides: further lines, as --epochs=3 or --grid=seed=0, that win over those of the file.

    Returns:
        The Study.

    Raises:
        InputError: a file that cannot be read, or all that is wrong with the axes and the points.
    """
    statement = read_statement(Path(flag_file), overrides)
    points: list[Point] = []
    wrong: dict[str, list[str]] = {}  # {message: the points that it is about}
    idle: dict[str, list[str]] = {}  # {flag that does nothing in some points: why, for each}
    for base, texts in itertools.product(statement.bases or (None,), products(statement.axes)):
        stem = [base.stem] if base else []
        name = "_".join([*stem, *(f"{flag}={_in_name(text)}" for flag, text in texts.items())])
        try:
            point, unheeded = _point(name, base, statement, texts)
        except (InputError, flags.Error) as error:
            wrong.setdefault(str(error), []).append(name)
            continue
        points.append(point)
        for flag, message in unheeded.items():
            idle.setdefault(flag, []).append(message)
    given = {flag_of(line) for line in overrides}
    refuse(
        statement.path,
        [_of_points(message, names) for message, names in wrong.items()]
        + [why[0] for flag, why in idle.items() if flag in given and len(why) == len(points)]
        + _doubles(points),
    )
    names = tuple(axis.names for axis in statement.axes)
    return Study(statement.path, statement.runs, names, tuple(points))


def _point(name, base, statement, texts):
    """(the Point, {flag of the study that does nothing in it: why})."""
    directory = statement.runs / name
    files = [*statement.files, *([base] if base else [])]
    named = [f"--flagfile={_shown(file)}" for file in files]
    varied = [f"--{flag}={text}" for flag, text in texts.items()]
    config, _ = _parse([*named, *statement.flags.values(), *varied, f"--run_dir={directory}"])
    check_given(config, set(texts))
    heeded, unheeded = [], {}
    for flag, line in statement.flags.items():
        try:
            check_given(config, {flag})
            heeded.append(line)
        except InputError as error:
            unheeded[flag] = str(error)
    arguments = [*named, *heeded, *varied, f"--run_dir={directory}"]
    config, _ = _parse(arguments)
    values = {flag: getattr(config, flag) for flag in texts}
    words = ("python", "-m", "lottery_tf.imp", *arguments)
    return Point(name, directory, values, config, words), unheeded


def _in_name(text):
    return command.in_name(text).replace(",", "+")  # a comma would part the name where tools read


def _parse(arguments):
    values = flags.FlagValues()
    command.define_config_flags(values)
    return command.parse_given(["lottery_tf.imp", *arguments], values)


def _shown(path):
    """A path as a user would write it here."""
    plain = Path(os.path.normpath(path))
    here = Path.cwd()
    return plain.relative_to(here) if plain.is_relative_to(here) else plain


def _of_points(message, names):
    """What is wrong with some points, in a line."""
    more = f", and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: {message}"


def _doubles(points: Iterable[Point]) -> list[str]:
    """What is wrong where two points have one name, or are one experiment."""
    names: dict[str, Point] = {}
    made: dict[Config, Point] = {}
    found = []
    for point in points:
        if names.setdefault(point.name, point) is not point:
            found.append(f"{point.name}: two points have this name.")
            continue
        same = made.setdefault(dataclasses.replace(point.config, run_dir=""), point)
        if same is not point:
            found.append(f"{point.name}: the same run as {same.name}.")
    return found
