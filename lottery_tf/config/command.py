"""What every command shares: flags of Config, flag files, and errors without a traceback."""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags

from lottery_tf.config import Config, paths
from lottery_tf.config.constraints import check_given
from lottery_tf.config.fields import format_value, value_type
from lottery_tf.datasets import packaged
from lottery_tf.errors import LOST, InputError, WorkerLost
from lottery_tf.terminal import streams

_DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
}


def define_config_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for every field of Config, with its default, choices and help."""
    flags.disclaim_key_flags()  # --help lists them under the command that asked for them
    for field in dataclasses.fields(Config):
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (f" One of: {', '.join(choices)}." if choices else "")
        # absl repeats a bound in its own words, later than Config does; so Config checks alone.
        several = isinstance(field.default, tuple)
        default: Any = field.default
        default = list(default) if several else default
        if field.metadata["path"]:
            define = paths.define_paths if several else paths.define_path
        else:
            define = flags.DEFINE_list if several else _DEFINE[value_type(field)]
        define(field.name, default, text, flag_values=flag_values)


def expand_flag_files(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Puts the flags of every --flagfile first, so that the command line wins wherever it stands.

    A --flagfile inside a flag file is looked for beside the including file; one of the command
    line, flags/<name>, also in the package.

    Args:
        arguments: the command line, without the program.

    Returns:
        (flags of the files, the other arguments, paths of the files named on the command line).

    Raises:
        InputError: a flag file that does not exist or includes itself.
    """
    from_files, others, names = [], [], []
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
    for name in names:
        from_files += _read_flag_file(_find_flag_file(pathlib.Path(name).expanduser()), ())
    return from_files, others, names


def _find_flag_file(path):
    """The path, or where there is no such file flags/<name> of the package."""
    if path.exists() or path.parts[:1] != ("flags",):
        return path
    in_package = packaged("flags").joinpath(*path.parts[1:])
    if not in_package.exists():
        raise InputError(f"There is no flag file {path} here, nor {in_package} in the package.")
    return in_package


def _read_flag_file(path, including):
    if path in including:
        raise InputError(f"The flag file {path} includes itself, through {including[-1]}.")
    asked_by = f", which {including[-1]} includes" if including else ""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"Cannot read the flag file {path}{asked_by}: {error.strerror}.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(
            f"The flag file {path}{asked_by} is no text: expected a flag per line, as --rounds=3."
        )
    lines = text.splitlines()
    found = []
    for line in map(str.strip, lines):
        if match := re.fullmatch(r"--?flagfile[= ](.*)", line):
            found += _read_flag_file(path.parent / match[1].strip(), (*including, path))
        elif line and not line.startswith(("#", "//")):
            found.append(line)
    return found


def parse_config(arguments: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """The Config that a command line asks for, its default run_dir filled in.

    Args:
        arguments: the command line, program first.
        flag_values: where define_config_flags defined the flags.

    Returns:
        The Config.

    Raises:
        InputError: a flag file or a value that is wrong, an argument that is not a flag, or a flag
            on the command line that does nothing.
        absl.flags.Error: an unknown flag, or a value of the wrong type.
    """
    program, *arguments = arguments
    from_files, others, names = expand_flag_files(arguments)
    flag_values([program, *from_files])
    before = _read_values(flag_values)
    in_files = {name: flag_values[name].present for name in before}
    flag_values.unparse_flags()
    _refuse_arguments(flag_values([program, *from_files, *others]))
    values = _read_values(flag_values)
    if not values["run_dir"]:
        changed = {
            field.name: values[field.name]
            for field in dataclasses.fields(Config)
            if not field.metadata["how"] and values[field.name] != before[field.name]
        }
        values["run_dir"] = _find_default_run_dir(names, changed)
    config = Config(**values)
    # A run that is there is continued with the flags that it was made with.
    if not (pathlib.Path(config.run_dir) / "config.json").exists():
        check_given(config, {name for name in before if flag_values[name].present > in_files[name]})
    return config


def _read_values(flag_values):
    values = {}
    for field in dataclasses.fields(Config):
        value = flag_values[field.name].value
        if isinstance(field.default, tuple):
            value = tuple(_parse_items(field, value))
        values[field.name] = value
    return values


def _parse_items(field, items):
    try:
        return [value_type(field)(item) for item in items]
    except ValueError:
        kind = value_type(field).__name__
        raise InputError(
            f"--{field.name}: expected {kind}s separated by commas. Received: {','.join(items)}"
        ) from None


def default_run_dir(flag_files: list[str], changed: dict[str, Any], *, comma: str = "+") -> str:
    """runs/<flag files>, with _flag=value for each changed experiment flag.

    `comma` stands for a comma, which would part the name in two where a tool takes several runs.
    """
    name = "+".join(pathlib.Path(name).stem for name in flag_files) or "defaults"
    for flag, value in changed.items():
        # A path in a value must not become a directory, nor two values one name.
        name += f"_{flag}={re.sub('[^A-Za-z0-9.,:+-]', '-', format_value(value))}"
    return str(pathlib.Path("runs") / name.replace(",", comma))


def _find_default_run_dir(flag_files, changed):
    """The default run_dir; where only an older version's, with commas, is a run, that one."""
    new, old = (default_run_dir(flag_files, changed, comma=comma) for comma in "+,")
    there = [path for path in (new, old) if (pathlib.Path(path) / "config.json").exists()]
    return (there or [new])[0]


def parse_flags(arguments: list[str]) -> None:
    """Parses the flags of a tool into absl's FLAGS; arguments as in parse_config."""
    program, *arguments = arguments
    from_files, others, _ = expand_flag_files(arguments)
    _refuse_arguments(flags.FLAGS([program, *from_files, *others]))


def run(main: Callable, parse: Callable = parse_flags) -> None:
    """Runs a command: main(parse(command line)); bad input is one line and exit status 1."""
    with streams.steady():
        app.run(_guarded(main), flags_parser=_guarded(_helpful(parse)))


def _helpful(parse):
    """The parser of a command line, which takes -h too, and ends with status 0 after help."""

    def call(arguments):
        for argument in arguments:
            try:
                argument.encode()
            except UnicodeEncodeError:
                wrong = ascii(argument)
                raise InputError(f"Expected arguments in UTF-8. Received: {wrong}") from None
        try:
            return parse(["--help" if argument == "-h" else argument for argument in arguments])
        except SystemExit:  # absl has printed the help, and would end with status 1
            sys.exit(0)

    return call


def _guarded(function):
    def call(argument):
        try:
            return function(argument)
        except (InputError, flags.Error) as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:
            print(f"Error: {error.filename or ''}: {error.strerror or error}.", file=sys.stderr)
            sys.exit(1)
        except WorkerLost as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(LOST)  # TensorFlow would wait for the worker
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            sys.exit(130)

    return call


def _refuse_arguments(rest):
    if rest[1:]:
        raise InputError(f"Expected only flags, as --rounds=3. Received: {' '.join(rest[1:])}")
