"""Flags that several tools share, each defined once; a tool names those that it takes."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from lottery_tf.analysis.reports import Output
from lottery_tf.analysis.runs import check_same_experiment, open_runs
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.config.paths import define_path, define_paths
from lottery_tf.errors import InputError
from lottery_tf.runs.replacing import check_replaces
from lottery_tf.runs.rundir import RunDir

flags.disclaim_key_flags()  # --help lists them under the tool that takes them

# flag: ((how absl defines it, default, choices), help); a tool may give another default or help.
FLAGS = {
    "run_dir": (
        (define_paths, []),
        "Run directory; several, with commas, are replicates: mean, min and max.",
    ),
    "out_dir": (
        (define_path, None),
        "Where to write. Default: analysis/ of the run (of replicates, the first's).",
    ),
    "pdf": ((flags.DEFINE_bool, False), "Write each picture as PDF too."),
    "other_run": (
        (define_paths, []),
        "Run whose rounds are the columns. Default: those of --run_dir.",
    ),
    "labels": (
        (flags.DEFINE_list, []),
        "Names for --run_dir and --other_run. Default: those of the directories.",
    ),
    "at_rounds": ((flags.DEFINE_list, []), "Finished rounds to measure, with commas."),
    "points": ((flags.DEFINE_integer, 20), "Equidistant points of each line, with its ends."),
    "split": ((flags.DEFINE_enum, "test", ["test", "train"]), "Examples to evaluate on."),
    "bn_stats": (
        (flags.DEFINE_enum, "recompute", ["recompute", "interpolate", "endpoint"]),
        "BatchNorm's statistics at a point of a line: mean and variance over the first 10,000 "
        "training examples, unaugmented; those of the ends, interpolated; or those of the nearer "
        "end.",
    ),
    "start": (
        (flags.DEFINE_string, "init"),
        "init, or rewind:STEP (rewind:4ep): train from the state of round 0 after so many steps.",
    ),
    "data_dir": (
        (define_path, None),
        "Directory that holds the prepared datasets. Default: the run's.",
    ),
    "strategy": (
        (flags.DEFINE_enum, "auto", ["auto", "one_device", "mirrored"]),
        "Where to compute, on one machine.",
    ),
    "jit_compile": (
        (flags.DEFINE_enum, "auto", ["auto", "on", "off"]),
        "Compile with XLA. auto: as training does.",
    ),
}
BESIDE = "Run to show beside --run_dir, as its reinit; several, with commas, are replicates."
OUTPUT = ("run_dir", "out_dir", "pdf")
ON_PATHS = ("points", "split", "bn_stats")
COMPUTING = ("data_dir", "strategy", "jit_compile")


def define(*names: str, about: Mapping[str, str] | None = None, **defaults: Any) -> None:
    """Defines flags of FLAGS for a tool.

    Args:
        *names: those with the usual default.
        about: {flag: help} where it means something of its own to the tool.
        **defaults: {flag: default} of further ones.
    """
    for name in (*names, *defaults):
        (function, default, *choices), text = FLAGS[name]
        function(name, defaults.get(name, default), *choices, (about or {}).get(name, text))


def values(*names: str) -> dict[str, Any]:
    """{flag: value}."""
    return {name: flags.FLAGS[name].value for name in names}


def computing() -> dict[str, Any]:
    """Where and how a command computes, as loading.engine_of takes it."""
    return values(*COMPUTING) | {"own_process": True}


def output() -> Output:
    """The Output that --out_dir asks for, and --pdf, where the tool draws."""
    return Output(flags.FLAGS.out_dir, "pdf" in flags.FLAGS and flags.FLAGS.pdf)


def runs() -> list[RunDir]:
    """The RunDirs that --run_dir names, checked."""
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
    """The RunDir that --other_run names, checked; None without."""
    names = flags.FLAGS.other_run
    if len(names) > 1:
        raise InputError(f"--other_run: expected one run. Received: {','.join(names)}")
    return open_runs(names)[0] if names else None


def groups() -> dict[str, list[RunDir]]:
    """{label: RunDirs} of --run_dir and --other_run, a list of runs each, checked.

    Raises:
        InputError: runs that do not go together, or another number of labels.
    """
    paths = [group for group in (flags.FLAGS.run_dir, flags.FLAGS.other_run) if group]
    opened = [open_runs(group) for group in paths]
    check_same_experiment(run for group in opened for run in group)
    labels = flags.FLAGS.labels or [pathlib.Path(group[0]).absolute().name for group in paths]
    if not len(set(labels)) == len(labels) == len(paths):
        raise InputError(
            f"--labels: expected {len(paths)} different names, of --run_dir and --other_run. "
            f"Received: {','.join(labels)}"
        )
    for group in opened:
        tell_collapsed(group)
    return dict(zip(labels, opened, strict=True))


def tell_collapsed(runs: Sequence[RunDir]) -> None:
    """Print which rounds of replicates have collapsed, for they are left out of the means."""
    for run in runs if len(runs) > 1 else ():
        if rounds := [row["round"] for row in run.metrics() if has_collapsed(row)]:
            numbers = ", ".join(map(str, rounds))
            print(f"{run.path.name} has collapsed in rounds {numbers}: left out of their means.")


def file_to_write(flag: Any, output: Output, run: RunDir, name: str, what: str,
                  is_ours: Callable[[bytes], bool]) -> pathlib.Path:  # fmt: skip
    """The path that a flag names, in --out_dir if that is given; by default of the run's output.

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
