"""The commands of measures; flags that several commands share, each defined once."""

import dataclasses
import inspect
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from lottery_tf import analysis
from lottery_tf.analysis.measure import Measure, Needs, Output
from lottery_tf.analysis.runs import check_same_experiment, open_runs
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.config import command
from lottery_tf.config.fields import value_type
from lottery_tf.config.paths import define_path, define_paths
from lottery_tf.errors import InputError
from lottery_tf.plots import tables
from lottery_tf.runs.replacing import check_replaces
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import signals

flags.disclaim_key_flags()  # --help lists them under the tool that takes them

# flag: ((how absl defines it, default, choices), help); a command may give another help.
FLAGS: dict[str, tuple[tuple[Any, ...], str]] = {
    "run_dir": (
        (define_paths, []),
        "Directory of the run. Several runs, separated by commas, are replicates: mean, min and "
        "max.",
    ),
    "out_dir": (
        (define_path, None),
        "Directory to write into. Default: analysis/ of the run, or of the first replicate.",
    ),
    "pdf": ((flags.DEFINE_bool, False), "Also write each picture as PDF."),
    "other_run": ((define_paths, []), "Another run. Default: none."),
    "labels": (
        (flags.DEFINE_list, []),
        "Names for --run_dir and --other_run. Default: the names of the directories.",
    ),
    "data_dir": (
        (define_path, None),
        "Directory that holds the prepared datasets. Default: that of the run.",
    ),
    "strategy": (
        (flags.DEFINE_enum, "auto", ["auto", "one_device", "mirrored"]),
        "Where to compute, on one machine.",
    ),
    "jit_compile": (
        (flags.DEFINE_enum, "auto", ["auto", "on", "off"]),
        "Compile with XLA. auto does as training does.",
    ),
}
OUTPUT = ("run_dir", "out_dir", "pdf")
COMPUTING = ("data_dir", "strategy", "jit_compile")
_DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
}


def run_measure(name: str) -> None:
    """Run the command of a measure: define its flags, measure, print."""
    measure = analysis.find(name)
    sys.modules["__main__"].__doc__ = inspect.getdoc(measure)  # what --help begins with
    about = {"run_dir": measure.run_help, "other_run": measure.other_help}
    define(*OUTPUT, about=about)
    if measure.other_help:
        define("other_run", *["labels"] * measure.beside, about=about)
    if measure.needs is not Needs.WEIGHTS:
        define(*COMPUTING)
    for field in own_flags(measure):
        define_field(field)
    command.run(lambda _: _report(measure))


def own_flags(measure: type[Measure[Any]]) -> list[dataclasses.Field]:
    """Return the fields of a measure that are flags of its command alone."""
    return [field for field in dataclasses.fields(measure) if "help" in field.metadata]


def define_field(field: dataclasses.Field) -> None:
    """Define the flag of a field that `config.fields.flag` made."""
    default, text = field.default, field.metadata["help"]
    if field.metadata["path"]:
        define_path(field.name, None if default is None else str(default), text)
    elif field.metadata["choices"]:
        flags.DEFINE_enum(field.name, default, field.metadata["choices"], text)
    elif isinstance(default, tuple):
        flags.DEFINE_list(field.name, list(default), text)
    else:
        _DEFINE[value_type(field)](field.name, default, text)


def _report(measure: type[Measure[Any]]) -> int:
    """Measure what the flags ask for, and print it; return the exit status."""

    def work(stop_signal: Callable[[], int]) -> None:
        of = groups() if measure.beside else {"": runs()}
        options = values(*[field.name for field in own_flags(measure)])
        asked = measure(of, stop_signal=stop_signal, **options)
        if measure.other_help and not measure.beside:
            asked.other = other_run()
        if measure.needs is not Needs.WEIGHTS:
            asked.computing = computing()
        written = output()
        for shown in asked.report(written):
            if isinstance(shown, str):
                print(shown)
            else:
                tables.show(*shown)
        tables.show_written(written.written)

    if measure.needs is Needs.RETRAINING:
        return signals.resumable(work)
    work(lambda: 0)
    return 0


def define(*names: str, about: Mapping[str, str] | None = None) -> None:
    """Define flags of FLAGS for a command.

    Args:
        *names: of the flags.
        about: {flag: help} where it means something of its own to the command.
    """
    for name in names:
        (function, default, *choices), text = FLAGS[name]
        function(name, default, *choices, (about or {}).get(name) or text)


def values(*names: str) -> dict[str, Any]:
    """Return {flag: value}."""
    return {name: flags.FLAGS[name].value for name in names}


def computing() -> dict[str, Any]:
    """Return where and how a command computes, as runs.engine_of takes it."""
    return values(*COMPUTING) | {"own_process": True}


def output() -> Output:
    """Return the Output that --out_dir asks for, and --pdf, where the command draws."""
    return Output(flags.FLAGS.out_dir, pdf="pdf" in flags.FLAGS and flags.FLAGS.pdf)


def runs() -> list[RunDir]:
    """Return the RunDirs that --run_dir names, checked."""
    opened = open_runs(flags.FLAGS.run_dir)
    names = [run.path.name for run in opened]
    if flags.FLAGS.out_dir and len(set(names)) != len(names):
        raise InputError(
            f"--out_dir expects runs of different names, for directories in it. Received: "
            f"{','.join(names)}"
        )
    tell_collapsed(opened)
    return opened


def other_run() -> RunDir | None:
    """Return the RunDir that --other_run names, checked; None without."""
    names = flags.FLAGS.other_run
    if len(names) > 1:
        raise InputError(f"--other_run: expected one run. Received: {','.join(names)}")
    return open_runs(names)[0] if names else None


def groups() -> dict[str, list[RunDir]]:
    """Return {label: RunDirs} of --run_dir and --other_run, a list of runs each, checked.

    Raises:
        InputError: runs that do not go together, or another number of labels.
    """
    paths = [group for group in (flags.FLAGS.run_dir, flags.FLAGS.other_run) if group]
    opened = [open_runs(group) for group in paths]
    check_same_experiment(run for group in opened for run in group)
    labels = labels_of([group[0] for group in paths], "of --run_dir and --other_run")
    for group in opened:
        tell_collapsed(group)
    return dict(zip(labels, opened, strict=True))


def labels_of(paths: Sequence[str], what: str) -> list[str]:
    """Return --labels, checked to be one for each path; by default the names of directories."""
    labels = flags.FLAGS.labels or [pathlib.Path(path).absolute().name for path in paths]
    if not len(set(labels)) == len(labels) == len(paths):
        raise InputError(
            f"--labels: expected {len(paths)} different names, {what}. Received: {','.join(labels)}"
        )
    return labels


def tell_collapsed(runs: Sequence[RunDir]) -> None:
    """Print which rounds of replicates have collapsed, for they are left out of the means."""
    for run in runs if len(runs) > 1 else ():
        if rounds := [row["round"] for row in run.metrics() if has_collapsed(row)]:
            numbers = ", ".join(map(str, rounds))
            print(f"{run.path.name} has collapsed in rounds {numbers}: left out of their means.")


def file_to_write(
    flag: flags.FlagHolder,
    output: Output,
    run: RunDir,
    name: str,
    what: str,
    is_ours: Callable[[bytes], bool],
) -> pathlib.Path:
    """Return the path that a flag names, in --out_dir if given; by default of the run's output.

    Args:
        flag, output, run: absl's flag, and where the results go.
        name: of the file, by default.
        what, is_ours: the kind of file, and whether the bytes of one are of it; another that is
            there is not replaced.

    Raises:
        InputError: its directory is not there, or another file is.
    """
    if output.directory or not flag.value:
        path = output.of(run, apart=False) / (flag.value or name)
    else:
        path = pathlib.Path(flag.value)
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(
            f"--{flag.name}: expected a file in a directory that is there. Received: {flag.value}"
        )
    if flag.value:
        check_replaces(path, is_ours, what, f"--{flag.name}")
    return path
