"""Compare runs at once, each pinned to a core, with one run at a time on all cores."""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
import statistics
import tempfile
from collections.abc import Iterator

from lottery_tf import datasets
from lottery_tf.benchmarks.turns import take_turns
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps.processes import Job, attempt

EPOCHS = 8  # of each run; the first compiles, and is left out


def step_rates(config: Config, *, repeats: int) -> dict[str, list[float]]:
    """Return the training steps per second of all runs together, as tools.sweep runs them.

    Args:
        config: of the training; EPOCHS of round 0 run, at a constant rate.

    Returns:
        {way: [steps per second of each repeat]}: "one after another", each on all cores, and
        "<n> at once", each pinned to a core. Of each run it is that of its median epoch.

    Raises:
        InputError: there is only one core, or a run fails.
    """
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        raise InputError("--what=sweep expects two cores or more, to compare. Found: 1")
    config = dataclasses.replace(
        config, rounds=1, epochs=EPOCHS, schedule="constant", warmup_epochs=0.0
    )
    with tempfile.TemporaryDirectory() as aside:
        place = pathlib.Path(aside)
        (place / "flags.cfg").write_text(config.to_flags())
        rate = functools.partial(_rate, config, (place / f"run{n}" for n in itertools.count()))
        ways = {
            "one after another": lambda: rate(1, pinned=0),
            f"{cores} at once": lambda: rate(cores, pinned=1),
        }
        what = f"{EPOCHS} epochs of each run, {repeats} times"
        return take_turns(ways, repeats=repeats, what=what)


def _rate(config: Config, places: Iterator[pathlib.Path], runs: int, *, pinned: int) -> float:
    """Run some new runs at once; return the steps per second of all together."""
    jobs = [_job(config, next(places), pinned) for _ in range(runs)]
    with concurrent.futures.ThreadPoolExecutor(runs) as pool:
        statuses = list(pool.map(attempt, jobs))
    for job, status in zip(jobs, statuses, strict=True):
        if status:
            text = pathlib.Path(job.log).read_text(errors="replace").strip()
            raise InputError(f"A run ended with exit status {status}: {text.splitlines()[-1]}")
    steps = datasets.find(config).splits["train"].examples // config.batch_size
    histories = [RunDir(job.run_dir).history(0)[1:] for job in jobs]
    seconds = [statistics.median(row["train_seconds"] for row in of) for of in histories]
    return sum(steps / of_run for of_run in seconds)


def _job(config: Config, run_dir: pathlib.Path, pinned: int) -> Job:
    files = f"--flagfile={run_dir.with_name('flags.cfg')}"
    data = f"--data_dir={pathlib.Path(config.data_dir).absolute()}"
    return Job(
        command=("python", "-m", "lottery_tf.imp", files, data, f"--run_dir={run_dir}"),
        directory=os.getcwd(),
        environment=dict(os.environ),
        run_dir=str(run_dir),
        log=f"{run_dir}.log",
        cores=pinned,
        stop_file=str(run_dir.with_name("stop")),
    )
