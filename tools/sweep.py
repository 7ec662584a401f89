"""Makes all runs of a study: a grid of experiments.

    python -m tools.sweep --flagfile=flags/digits.cfg --grid=seed=0,1 --runs=runs/digits_seeds

If Ray is installed (pip install 'lottery_tf[sweep]'), runs share the cores or GPUs of this machine,
or those of a Ray cluster at --address. Without Ray, one run follows another. Ctrl-C stops all runs,
and the same command resumes them. A flag of an experiment, such as --epochs=3, holds for all runs.
"""

import dataclasses
import os
from collections.abc import Callable

from absl import flags

from lottery_tf.config import Config, command
from lottery_tf.config.fields import format_value
from lottery_tf.config.flag_files import named_flag_files
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError, install_line
from lottery_tf.sweeps import clusters, grid, sweep
from lottery_tf.terminal import signals

GRID = flags.DEFINE_multi_string(
    "grid", [], "A flag and its values, as in seed=0,1,2. Several --grid multiply."
)
ZIP = flags.DEFINE_multi_string(
    "zip",
    [],
    "Flags that vary together, as in 'optimizer=adam,momentum;learning_rate=1.2e-3,0.1'. An "
    "empty value omits its flag.",
)
BASES = flags.DEFINE_string(
    "bases", None, "Flag files to vary, separated by commas. Default: those of --flagfile."
)
RUNS = define_path(
    "runs",
    None,
    "Directory that holds the run directories. Default: runs/<flag file>, or what the flag "
    "file says.",
)
CLUSTER = flags.DEFINE_enum(
    "cluster",
    "auto",
    ("auto", "ray", "none"),
    "Where runs are made. none makes one run after another; auto uses Ray if it is installed.",
)
ADDRESS = flags.DEFINE_string(
    "address", "", "Ray cluster to use, as in host:6379, or auto. Default: one of this machine."
)
CPUS = flags.DEFINE_integer(
    "cpus_per_run",
    1,
    "Cores that each run gets on Ray. A run without a GPU is pinned to them and uses as many "
    "threads.",
    lower_bound=1,
)
GPUS = flags.DEFINE_float(
    "gpus_per_run",
    None,
    "GPUs that each run gets on Ray, or a part of one. Default: 1 if there are any.",
    lower_bound=0,
)
RETRIES = flags.DEFINE_integer(
    "retries",
    3,
    "Number of times in a row that a killed or lost run is restarted without a new finished round.",
    lower_bound=0,
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the runs and estimate their time; start none.")
WATCH = flags.DEFINE_bool(
    "watch", False, "Show the progress of the runs until all are finished; start none."
)
POINT = flags.DEFINE_integer(
    "point",
    None,
    "Make only this run, counted from 0 in the order of --dry_run. A task of a Slurm array "
    "gives its own number. Default: make all.",
    lower_bound=0,
)
SECONDS = 5.0  # between two tables of --watch


def parse(arguments: list[str]) -> grid.Study:
    """Return the Study that a command line names; its flags of experiments are for all runs."""
    program, *arguments = arguments
    others, names = named_flag_files(arguments)
    command.parse_flags([program, *others])
    if len(names) != 1:
        raise InputError(
            "Expected the flag file of one study, as --flagfile=flags/digits.cfg; several are "
            f"varied by --bases. Received: {' '.join(names) or 'none'}"
        )
    overrides = [
        f"--{field.name}={format_value(flags.FLAGS[field.name].value)}"
        for field in dataclasses.fields(Config)
        if flags.FLAGS[field.name].present
    ]
    for flag in (GRID, ZIP, BASES, RUNS):
        values = flag.value if isinstance(flag.value, list) else [flag.value]
        overrides += [f"--{flag.name}={value}" for value in values if value is not None]
    return grid.read(names[0], overrides)


def main(study: grid.Study) -> int:
    """Make the runs; the exit status is 1 if one of them could not be made."""
    grid.check(study)
    there = CLUSTER.value == "auto" and clusters.has_ray()
    use_ray = CLUSTER.value == "ray" or ADDRESS.value or there
    if POINT.value is not None and POINT.value >= len(study.points):
        raise InputError(
            f"--point: expected the number of a run, 0 to {len(study.points) - 1}. Received: "
            f"{POINT.value}"
        )
    if WATCH.value:
        sweep.watch(study, SECONDS)
        return 0
    if DRY_RUN.value:
        cores = len(os.sched_getaffinity(0))
        sweep.plan(study, max(1, cores // CPUS.value) if use_ray and not ADDRESS.value else 1)
        return 0
    if CLUSTER.value == "none" and ADDRESS.value:
        raise InputError("--address does nothing beside --cluster=none: leave one of them out.")
    if use_ray:
        options = {"cpus_per_run": CPUS.value, "gpus_per_run": GPUS.value}
        where = clusters.on_ray(ADDRESS.value, **options)
    else:
        where = clusters.one_after_another()
        if not clusters.has_ray():
            print(f"One run after another. Several at once: {install_line('ray')}")
    failed = 0

    def work(stop_signal: Callable[[], int]) -> None:
        nonlocal failed
        failed = sweep.make(
            study, cluster, retries=RETRIES.value, stop_signal=stop_signal, only=POINT.value
        )

    with where as cluster:
        return signals.resumable(work) or int(failed > 0)


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, parse)
