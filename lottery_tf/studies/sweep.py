"""Makes the runs of a study."""

import contextlib
import os
import pathlib
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

import filelock
from tqdm import tqdm

from lottery_tf.errors import InputError
from lottery_tf.output import Row, tables
from lottery_tf.store.rundir import RunDir
from lottery_tf.studies import sharing
from lottery_tf.studies.attempts import Job
from lottery_tf.studies.clusters import Cluster
from lottery_tf.studies.grid import Point, Study
from lottery_tf.studies.progress import Bars, Pace
from lottery_tf.studies.scheduling import Schedule, State, rounds_of, tail
from lottery_tf.terminal import console
from lottery_tf.terminal.signals import Interrupted

ASIDE = ".sweep_"  # directories of stop files
COLUMNS = {
    "name": ("run", "{}"),
    "rounds": ("rounds", "{}"),
    "density": ("density", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "seconds": ("seconds", "{:.0f}"),
    "state": ("state", "{}"),
}


def make(study: Study, cluster: Cluster, *, retries: int, stop_signal: Callable[[], int]) -> int:
    """Makes all runs of a study that are not finished; how many could not be made.

    Args:
        study: the Study, checked.
        cluster: where.
        retries: attempts in a row without a further round, after which a run is given up.
        stop_signal: a function that gives the number of the signal that has come, or 0.

    Raises:
        Interrupted: a signal came; all runs are stopped, with checkpoints.
    """
    study.runs.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(study.points, retries=retries, report=console.say)
    finished = sum(state.finished for state in schedule.states)
    print(f"{study.runs}: {finished} of {len(study.points)} runs are finished.", flush=True)
    if finished < len(study.points):
        with _stopping(study.runs, schedule) as stop_file:
            bars = Bars(schedule.states, cluster.slots)

            def submit(point):
                return cluster.submit(_job(study, point, cluster.cores, stop_file))

            try:
                schedule.run(cluster, submit, bars.show, stop_signal)
            finally:
                bars.close()
        if number := stop_signal():
            raise Interrupted(number)
    tables.show([_row(state) for state in schedule.states], COLUMNS)
    failed = [state for state in schedule.states if state.failure]
    for state in failed:
        print(f"{state.point.name}: {state.failure}. Its log, {log_of(study, state.point)}, ends:")
        print(tail(log_of(study, state.point)))
        print(f"  Alone: {shlex.join(state.point.command)}")
    return len(failed)


@contextlib.contextmanager
def _stopping(runs: pathlib.Path, schedule: Schedule) -> Iterator[pathlib.Path]:
    """Yields the path of a stop file; afterwards what still runs is stopped by it."""
    _remove_leftovers(runs)
    with tempfile.TemporaryDirectory(dir=runs, prefix=ASIDE) as aside:
        stop_file = pathlib.Path(aside).absolute() / "stop"
        held = os.open(aside, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            filelock.lock_descriptor(held, blocking=False)
        try:
            yield stop_file
        finally:
            if schedule.running:
                console.say(f"Stopping {len(schedule.running)} runs, which save checkpoints.")
            stop_file.touch()
            while schedule.running:
                schedule.wait()
                for state in schedule.running:
                    if state.future and state.future.done():
                        state.future = None
            os.close(held)


def _remove_leftovers(runs):
    """Removes the directories of stop files that sweeps left when they were killed."""
    for leftover in runs.glob(f"{ASIDE}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                # Another sweep may be about to lock the one that it has just made.
                is_old = time.time() - leftover.stat().st_mtime > 60
                if is_old and filelock.lock_descriptor(descriptor, blocking=False):
                    shutil.rmtree(leftover)
            finally:
                os.close(descriptor)


def log_of(study: Study, point: Point) -> pathlib.Path:
    """What a run printed, and its command."""
    return study.runs / f"{point.name}.log"


def _job(study, point, cores, stop_file):
    return Job(
        command=point.command,
        directory=os.getcwd(),
        # What is for Ray, as its token, is not for the runs.
        environment={n: text for n, text in os.environ.items() if not n.startswith("RAY_")},
        run_dir=str(point.directory.absolute()),
        log=str(log_of(study, point).absolute()),
        cores=cores,
        stop_file=str(stop_file),
    )


def _row(state: State) -> Row:
    """A run in the table at the end."""
    point = state.point
    row: Row = {
        "name": point.name,
        "rounds": f"{rounds_of(point)} of {point.config.rounds}",
        "state": "failed" if state.failure else "finished" if state.finished else "open",
    }
    rows: list[Row] = []
    with contextlib.suppress(InputError):  # its log says what is damaged
        rows = RunDir(point.directory).metrics()
    nan = float("nan")
    last = rows[-1] if rows else {}
    row |= {name: last.get(name, nan) for name in ("density", "test_accuracy")}
    return row | {"seconds": sum(row["seconds"] for row in rows) if rows else nan}


def plan(study: Study, slots: int) -> None:
    """Prints the runs of a study and an estimate of their time; starts nothing.

    Args:
        study: the Study.
        slots: how many runs go on at once.
    """
    pace, rows, keys = Pace(), [], set()
    left = [point for point in study.points if not point.is_finished()]
    for point in study.points:
        finished = point.finished_rounds()
        share = sharing.key(point.config)
        state = "finished" if point not in left else "open"
        if not finished and share in keys:
            state = "open, round 0 of another run"
        keys.add(share)
        rows.append({"name": point.name, "rounds": f"{finished} of {point.config.rounds}",
                     "state": state})  # fmt: skip
        pace.look(point)
    tables.show(rows, COLUMNS)
    rounds = sum(point.config.rounds - point.finished_rounds() for point in left)
    print(f"{len(left)} of {len(study.points)} runs are to be made: {rounds} rounds.")
    seconds = pace.seconds_left(left)
    if seconds is None:
        print("How long they take is known once a first round is finished.")
    elif left:
        print(f"By the rounds that are finished, about {tqdm.format_interval(seconds / slots)} for "
              f"{slots} at once, without the start of each (some 10 s).")  # fmt: skip
    for point in left[:1]:
        print(f"The first, alone: {shlex.join(point.command)}")
