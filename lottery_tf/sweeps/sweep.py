"""Makes the runs of a study, and shows how far they are and how long they take."""

import contextlib
import os
import pathlib
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait

from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, tables
from lottery_tf.runs import files
from lottery_tf.runs.rundir import METRICS, RunDir
from lottery_tf.sweeps import processes, results, sharing
from lottery_tf.sweeps.clusters import Cluster
from lottery_tf.sweeps.grid import Point, Study
from lottery_tf.sweeps.processes import Job
from lottery_tf.sweeps.schedule import Attempt, Schedule, State, rounds_of
from lottery_tf.terminal import console
from lottery_tf.terminal.signals import Interrupted

STOP = ".sweep_"  # how the names of stop files begin
TAIL = 8  # lines of the log of a failed run
MOST_BARS = 16  # of runs, below that of the study
COLUMNS: Columns = {
    "name": ("run", "{}"),
    "rounds": ("rounds", "{}"),
    "density": ("density", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "seconds": ("seconds", "{:.0f}"),
    "state": ("state", "{}"),
}


def make(
    study: Study,
    cluster: Cluster,
    *,
    retries: int,
    stop_signal: Callable[[], int],
    only: int | None = None,
) -> int:
    """Make all unfinished runs of a study; return how many could not be made.

    Args:
        study: checked.
        cluster: where attempts happen.
        only: the number of the one run to make.
        retries: how many attempts in a row may fail without a further finished round.
        stop_signal: returns the number of the signal that came, or 0.

    Raises:
        Interrupted: a signal came; all runs are stopped, with checkpoints.
    """
    study.runs.mkdir(parents=True, exist_ok=True)
    points = study.points if only is None else study.points[only : only + 1]
    schedule = Schedule(points, retries=retries, report=console.say)
    finished = sum(state.finished for state in schedule.states)
    print(f"{study.runs}: {finished} of {len(points)} runs are finished.", flush=True)
    logs = {point.name: study.runs / f"{point.name}.log" for point in points}
    if finished < len(points):
        if cluster.cores:
            _tell_of_held_cores(cluster.cores)
        with _stopping(study.runs, schedule) as stop_file, _bars(schedule, cluster.slots) as show:

            def submit(point: Point) -> Attempt:
                job = Job(
                    command=point.command,
                    directory=os.getcwd(),
                    # Variables for Ray, such as its token, are not for the runs.
                    environment={n: v for n, v in os.environ.items() if not n.startswith("RAY_")},
                    run_dir=str(point.directory.absolute()),
                    log=str(logs[point.name].absolute()),
                    cores=cluster.cores,
                    stop_file=str(stop_file),
                )
                return cluster.submit(job)

            schedule.run(submit, slots=cluster.slots, show=show, stop_signal=stop_signal)
    written = results.write(study.runs, [point.directory for point in study.points])
    if number := stop_signal():
        raise Interrupted(number)
    tables.show([_row(state) for state in schedule.states], COLUMNS)
    if written:
        print(f"A row for each run and round: {written}")
    failed = [state for state in schedule.states if state.failure]
    for state in failed:
        log = logs[state.point.name]
        print(f"{state.point.name}: {state.failure}. Its log, {log}, ends:")
        try:
            lines = log.read_text(errors="replace").splitlines()[-TAIL:]
        except OSError as error:
            lines = [f"{log}: {error.strerror}"]
        print("\n".join(f"    {line}" for line in lines))
        print(f"  Alone: {shlex.join(state.point.command)}")
    return len(failed)


def _tell_of_held_cores(count: int) -> None:
    """Say that runs have to wait, if too few cores of this machine are free."""
    held, cores = processes.cores_held()
    if cores - held < count:
        print(
            f"Other studies hold {held} of the {cores} cores of this machine, even while they "
            f"are suspended. A run waits until {count} of them are free.",
            flush=True,
        )


@contextlib.contextmanager
def _stopping(runs: pathlib.Path, schedule: Schedule) -> Iterator[pathlib.Path]:
    """Yield the path of a stop file; create it at the end, and wait for the runs that it stops."""
    for left in runs.glob(f"{STOP}*"):  # by sweeps that were killed while they stopped their runs
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
    stop_file = runs.absolute() / f"{STOP}{uuid.uuid4().hex}"
    try:
        yield stop_file
    finally:
        if schedule.running:
            console.say(f"Stopping {len(schedule.running)} runs, which save checkpoints.")
            stop_file.touch()
            wait(schedule.running)
            stop_file.unlink()


def _row(state: State) -> Row:
    """Return the row of a run in the table at the end."""
    found = "failed" if state.failure else "finished" if state.finished else "open"
    return _row_of(state.point, found)


def _row_of(point: Point, state: str) -> Row:
    row: Row = {
        "name": point.name,
        "rounds": f"{rounds_of(point)} of {point.config.rounds}",
        "state": state,
    }
    with contextlib.suppress(InputError):  # its log says what is damaged
        for of_round in RunDir(point.directory).metrics():
            row |= {name: of_round[name] for name in ("density", "test_accuracy")}
            row["seconds"] = row.get("seconds", 0) + of_round["seconds"]
    return row


def watch(study: Study, every: float) -> None:
    """Show a table of the runs again and again until all are finished; start none.

    In a terminal each table takes the place of the one before; in a log there is one.
    """
    while True:
        finished = [point.is_finished() for point in study.points]
        rows = [
            _row_of(point, "finished" if done else "open")
            for point, done in zip(study.points, finished, strict=True)
        ]
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")  # go to the top, and clear the screen
        print(f"{study.runs}: {sum(finished)} of {len(finished)} runs are finished.")
        tables.show(rows, COLUMNS)
        if all(finished) or not sys.stdout.isatty():
            return
        time.sleep(every)


def plan(study: Study, slots: int) -> None:
    """Print the runs of a study and an estimate of their time, so many at once; start none."""
    pace, rows, keys = Pace(), [], set()
    left = [point for point in study.points if not point.is_finished()]
    for point in study.points:
        finished = pace.look(point)
        key = sharing.key(point.config)
        state = "open" if point in left else "finished"
        if not finished and key in keys:
            state = "open, round 0 of another run"
        keys.add(key)
        rounds = f"{finished} of {point.config.rounds}"
        rows.append({"name": point.name, "rounds": rounds, "state": state})
    tables.show(rows, COLUMNS)
    count = sum(point.config.rounds - point.finished_rounds() for point in left)
    print(f"{len(left)} of {len(study.points)} runs are to be made: {count} rounds.")
    seconds = pace.seconds_left(left)
    if seconds is None:
        print("How long they take is known once a first round is finished.")
    elif left:
        from tqdm import tqdm

        print(
            f"By the rounds that are finished, about {tqdm.format_interval(seconds / slots)} for "
            f"{slots} at once, without the start of each (some 10 s)."
        )
    for point in left[:1]:
        print(f"The first, alone: {shlex.join(point.command)}")


# Progress -------------------------------------------------------------------------------------


class Pace:
    """Estimates the time of the rounds of a study from those that are finished."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # {name: (rounds, their seconds)}

    def look(self, point: Point) -> int:
        """Return the number of finished rounds of a run, and count their seconds from now on."""
        finished = rounds_of(point)
        if finished and self._known.get(point.name, (0, 0.0))[0] != finished:
            try:
                rows = files.parse_csv((point.directory / METRICS).read_bytes())
                seconds = [float(row["seconds"]) for row in rows]
            except (OSError, InputError, KeyError, ValueError):  # it is being written
                return finished
            self._known[point.name] = finished, sum(seconds) * finished / len(seconds)
        return finished

    def seconds_left(self, points: Sequence[Point]) -> float | None:
        """Return the seconds of the rounds left, one after another; None if none is finished yet.

        A run without a finished round counts by the mean of the others.
        """
        left = {point.name: point.config.rounds - self.look(point) for point in points}
        if not self._known:
            return None
        of_all = [sum(numbers) for numbers in zip(*self._known.values(), strict=True)]
        total = 0.0
        for name, count in left.items():
            rounds, seconds = self._known.get(name, of_all)
            total += max(0, count) * seconds / rounds
        return total


@contextlib.contextmanager
def _bars(
    schedule: Schedule, slots: Callable[[], int]
) -> Iterator[Callable[[Sequence[State]], None]]:
    """Show a bar of all rounds with the time left, and one of each run in progress.

    Yields:
        A function of the states that moves the bars.
    """
    from tqdm import tqdm

    pace = Pace()

    def new(total: int, name: str, position: int) -> tqdm:
        return tqdm(
            total=total,
            desc=name,
            position=position,
            leave=False,
            dynamic_ncols=True,
            disable=None,  # no bar in a log file
            bar_format="{desc}: {n_fmt} of {total_fmt} |{bar}|{postfix}",
        )

    rounds = sum(state.point.config.rounds for state in schedule.states)
    whole = new(rounds, "rounds of the study", 0)
    bars: list[tqdm] = []

    def show(states: Sequence[State]) -> None:
        done = sum(pace.look(state.point) for state in states if not state.failure)
        seconds = pace.seconds_left([s.point for s in states if s.is_open or s.attempt])
        left = "?" if seconds is None else tqdm.format_interval(seconds / max(1, slots()))
        finished = sum(state.finished for state in states)
        whole.set_postfix_str(f"{finished} of {len(states)} runs, about {left} left", False)
        whole.n = done
        whole.refresh()
        running = [state.point for state in states if state.attempt][:MOST_BARS]
        while len(bars) < len(running):
            bars.append(new(1, "", len(bars) + 1))
        while len(bars) > len(running):
            bars.pop().close()
        for bar, point in zip(bars, running, strict=True):
            bar.total, bar.n = point.config.rounds, pace.look(point)
            bar.set_description_str(point.name)

    try:
        yield show
    finally:
        for bar in [*bars, whole]:
            bar.close()
