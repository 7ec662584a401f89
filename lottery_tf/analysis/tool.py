"""What the tools share: their flags, and how results go to the run and to TensorBoard."""

import pathlib

from absl import flags
from tqdm import tqdm

from lottery_tf.analysis import rounds
from lottery_tf.analysis.results import Results
from lottery_tf.errors import InputError

RUN_DIR = flags.DEFINE_list(
    "run_dir", [], "Run directory; several, with commas, are replicates: mean, min and max."
)
OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "Where to write. Default: analysis/ of the run (of replicates, the first's)."
)
PDF = flags.DEFINE_bool("pdf", False, "Write each picture as PDF too.")


def open_runs():
    """The runs that --run_dir names, checked."""
    runs = rounds.open_runs(RUN_DIR.value)
    names = [run.path.name for run in runs]
    if OUT_DIR.value and len(set(names)) != len(names):
        raise InputError(
            f"--out_dir expects runs of different names, for directories in it. Received: "
            f"{','.join(names)}"
        )
    return runs


def define_groups():
    """Defines --other_run and --labels, for tools that show runs beside one another."""
    flags.DEFINE_list(
        "other_run", [], "Run to show beside --run_dir, as its reinit; several are replicates."
    )
    flags.DEFINE_list(
        "labels", [], "Names for --run_dir and --other_run. Default: those of the directories."
    )


def open_groups():
    """{label: RunDirs} of --run_dir and --other_run, checked.

    Raises:
        InputError: runs that do not go together, or another number of labels.
    """
    groups = [g for g in (RUN_DIR.value, flags.FLAGS.other_run) if g]
    runs = rounds.open_runs([path for group in groups for path in group])
    labels = flags.FLAGS.labels or [pathlib.Path(group[0]).name for group in groups]
    if not len(set(labels)) == len(labels) == len(groups):
        raise InputError(
            f"--labels: expected {len(groups)} different names, of --run_dir and --other_run. "
            f"Received: {','.join(labels)}"
        )
    counts = iter(runs)
    return {
        label: [next(counts) for _ in group] for label, group in zip(labels, groups, strict=True)
    }


def results(run, name, runs):
    """Results of one of the runs that a tool was given; with --out_dir and several, apart."""
    directory = OUT_DIR.value
    if directory and len(runs) > 1:
        directory = f"{directory}/{run.path.name}"
    return Results(run, name, directory)


def combined(name, runs):
    """Results of all runs together."""
    return Results(runs[0], f"{name}_of_{len(runs)}_runs", OUT_DIR.value)


def log(run, name, *, scalars=None, images=None):
    """Adds curves and pictures to the run's page of TensorBoard; with --out_dir, to none."""
    if OUT_DIR.value:
        return
    from lottery_tf.output import events

    scalars = {tag: events.finite(points) for tag, points in (scalars or {}).items()}
    events.write(run.path / "tensorboard", name, scalars=scalars, images=images or {})


def progress(total, what):
    """A progress bar; none in a log file."""
    return tqdm(total=total, desc=what, leave=False, dynamic_ncols=True, disable=None)


def print_table(rows, columns):
    """Prints rows.

    Args:
        columns: {column: (title, format)}; NaN is left empty.
    """
    lines = [[title for title, _ in columns.values()]]
    for row in rows:
        cells = (
            form.format(row[c]) if row[c] == row[c] else "" for c, (_, form) in columns.items()
        )
        lines.append(list(cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def print_options(options):
    """Prints what results depend on, below their table."""
    print("(" + ", ".join(f"{name}: {value}" for name, value in options.items()) + ")")
