"""What every command shares: flags of Config, flag files, and errors without a traceback."""

import contextlib
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from lottery_tf.config import ROUNDS, Config, paths, record
from lottery_tf.config.constraints import check_given
from lottery_tf.config.fields import format_value, value_type
from lottery_tf.config.flag_files import expand_flag_files
from lottery_tf.errors import EXTRAS, LOST, InputError, WorkerLost, not_installed
from lottery_tf.terminal import console, help_page, streams

HELP = {"-h", "-help", "--help", "-helpfull", "--helpfull", "--helpshort", "--helpxml"}
_DEFINE: dict[type, Callable] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
}


def define_config_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Define an absl flag for every field of Config, with its default, choices and help."""
    flags.disclaim_key_flags()  # --help lists them under the command that asked for them
    for field in dataclasses.fields(Config):
        choices = field.metadata["choices"]
        text = field.metadata["help"] + (f" One of: {', '.join(choices)}." if choices else "")
        # Config alone checks the limits: absl would do so earlier, in other words.
        default, define = field.default, _DEFINE[value_type(field)]
        if isinstance(default, tuple):
            default, define = list(default), flags.DEFINE_list
        if field.metadata["path"]:
            define = paths.define_paths if define is flags.DEFINE_list else paths.define_path
        define(field.name, default, text, flag_values=flag_values)


def parse_config(arguments: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """Return the Config that a command line, program first, asks for; it has a run_dir.

    Raises:
        InputError: a flag file or a value that is wrong, an argument that is not a flag, or a flag
            on the command line that does nothing.
        absl.flags.Error: an unknown flag, or a value of the wrong type.
    """
    config, given = parse_given(arguments, flag_values)
    if config.rounds < (asked := flag_values["rounds"].value or 0):
        console.say(
            f"--rounds={asked} is lowered to {config.rounds}: round 0, and one for each target of "
            "--density or --densities."
        )
    # Existing runs resume with their original flags.
    if not _is_run(config.run_dir):
        check_given(config, given)
    return config


def parse_given(
    arguments: list[str], flag_values: flags.FlagValues = flags.FLAGS
) -> tuple[Config, set[str]]:
    """Return what `parse_config` does, and the names of the flags on the command line itself.

    Those may do nothing. More rounds than --density or --densities have targets for are lowered:
    a flag file may be meant for another variant of the experiment.
    """
    program, *arguments = arguments
    from_files, others, names = expand_flag_files(arguments)
    flag_values([program, *from_files])
    before = _read_values(flag_values)
    in_files = {name: flag_values[name].present for name in before}
    for name in flag_values:  # unparse_flags() would log a line for each point of a sweep
        flag_values[name].unparse()
    _refuse_arguments(flag_values([program, *from_files, *others]))
    values = _read_values(flag_values)
    if not values["run_dir"]:
        changed = {
            field.name: values[field.name]
            for field in dataclasses.fields(Config)
            if not field.metadata["how"] and values[field.name] != before[field.name]
        }
        # Where only a run of an older version is, its name has commas.
        new, old = (default_run_dir(names, changed, comma=comma) for comma in "+,")
        only_old = not _is_run(new) and _is_run(old)
        values["run_dir"] = old if only_old else new
    given = {name for name in before if flag_values[name].present > in_files[name]}
    if (asked := values["rounds"]) is not None:
        most = Config(**values | {"rounds": None}).policy.most_rounds
        values["rounds"] = min(asked, most or asked)
    config = Config(**values)
    # Older versions recorded the default ROUNDS, however many --densities there are.
    if asked is None and config.rounds > ROUNDS and _is_run(config.run_dir):
        with contextlib.suppress(OSError, ValueError):  # whoever opens the run reports it
            text = (pathlib.Path(config.run_dir) / "config.json").read_text()
            if record.read(text)["rounds"] == ROUNDS:
                config = dataclasses.replace(config, rounds=ROUNDS)
    return config, given


def _is_run(run_dir: str) -> bool:
    return (pathlib.Path(run_dir) / "config.json").exists()


def _read_values(flag_values: flags.FlagValues) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(Config):
        value = flag_values[field.name].value
        if isinstance(field.default, tuple):
            try:
                value = tuple(map(value_type(field), value))
            except ValueError:
                raise InputError(
                    f"--{field.name}: expected {value_type(field).__name__}s separated by commas. "
                    f"Received: {','.join(value)}"
                ) from None
        values[field.name] = value
    return values


def default_run_dir(flag_files: list[str], changed: dict[str, Any], *, comma: str = "+") -> str:
    """Return runs/<flag files>, with _flag=value for each changed experiment flag.

    `comma` stands for a comma, which would split the name where a tool takes several runs.
    """
    name = "+".join(pathlib.Path(name).stem for name in flag_files) or "defaults"
    for flag, value in changed.items():
        name += f"_{flag}={in_name(format_value(value))}"
    return str(pathlib.Path("runs") / name.replace(",", comma))


def in_name(value: str) -> str:
    """Return a flag's value as a part of one directory's name, without slashes."""
    return re.sub("[^A-Za-z0-9.,:+-]", "-", value)


def parse_flags(arguments: list[str]) -> None:
    """Parse the flags of a tool into absl's FLAGS; arguments as in parse_config."""
    program, *arguments = arguments
    from_files, others, _ = expand_flag_files(arguments)
    _refuse_arguments(flags.FLAGS([program, *from_files, *others]))


def _refuse_arguments(rest: list[str]) -> None:
    if rest[1:]:
        raise InputError(f"Expected only flags, as --rounds=3. Received: {' '.join(rest[1:])}")


def run(main: Callable, parse: Callable = parse_flags) -> None:
    """Run a command: main(parse(command line)); bad input is one line and exit status 1."""

    def quiet(argument: Any) -> Any:
        if not flags.FLAGS["verbosity"].present:
            # TensorFlow Datasets would log each file that it opens.
            logging.set_verbosity(logging.ERROR)
        return main(argument)

    def parse_or_help(arguments: list[str]) -> Any:
        for argument in arguments:
            try:
                argument.encode()
            except UnicodeEncodeError:
                wrong = ascii(argument)
                raise InputError(f"Expected arguments in UTF-8. Received: {wrong}") from None
        if not HELP.intersection(arguments):
            try:
                os.getcwd()
            except OSError as error:
                where = os.environ.get("PWD", "the current directory")
                raise InputError(
                    f"Cannot work in {where}: {error.strerror}. Perhaps it was deleted: change "
                    "into an existing directory."
                ) from None
        if {"-h", "-help", "--help"}.intersection(arguments):
            found = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
            about = sys.modules["__main__"].__doc__ or ""
            print(help_page.help_page(about, found, set(Config.__dataclass_fields__)))
            sys.exit(0)
        try:
            return parse(arguments)
        except SystemExit:  # absl has printed the help, and would end with status 1
            sys.exit(0)

    with streams.steady():
        app.run(_guarded(quiet), flags_parser=_guarded(parse_or_help))


def _guarded(function: Callable) -> Callable:
    """Return the function, whose expected errors end the process with one line and a status."""

    def call(argument: Any) -> Any:
        try:
            return function(argument)
        except (InputError, flags.Error) as error:
            reason = str(error)
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            reason = str(not_installed(package, "This command"))
        except OSError as error:
            where = "" if error.filename is None else f"{error.filename}: "
            reason = f"{where}{error.strerror or error}."
        except WorkerLost as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(LOST)  # TensorFlow would wait for the worker
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            sys.exit(130)
        print(f"Error: {reason}", file=sys.stderr)
        sys.exit(1)

    return call
