"""Which run of a study is attempted next, and what follows from how an attempt ended."""

import concurrent.futures
import dataclasses
import pathlib
import signal
from collections.abc import Callable, Hashable, Sequence

from lottery_tf.errors import LOST, InputError
from lottery_tf.sweeps import sharing
from lottery_tf.sweeps.clusters import Cluster, Future
from lottery_tf.sweeps.grid import Point
from lottery_tf.terminal.signals import PREEMPTED

LOOK = 0.5  # seconds between two looks at what runs
TAIL = 8  # lines of a log


@dataclasses.dataclass
class State:
    """How far a run of a study is.

    Args:
        point: the run.
        key: what runs that share its round 0 have in common.
        attempts: that failed since the last round was finished.
        rounds: that were finished when the last attempt began.
        future: of the exit status of the attempt that goes on; None without.
        failure: why it is given up; "" if it is not.
        finished: whether it is.
    """

    point: Point
    key: Hashable
    attempts: int = 0
    rounds: int = 0
    future: Future | None = None
    failure: str = ""
    finished: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do that has not begun."""
        return not (self.future or self.failure or self.finished)


class Schedule:
    """The runs of a study, and what becomes of them.

    Args:
        points: the runs.
        retries: attempts in a row, without a further round finished, after which one is given up.
        report: called with a line on what happens.
    """

    def __init__(self, points: Sequence[Point], *, retries: int, report: Callable[[str], None]):
        self.states = [State(point, sharing.key(point.config)) for point in points]
        self.retries, self.report = retries, report
        for state in self.states:
            state.finished = state.point.is_finished()

    def run(
        self,
        cluster: Cluster,
        submit: Callable[[Point], Future],
        show: Callable[[Sequence[State]], None],
        stop_signal: Callable[[], int],
    ) -> None:
        """Attempts all that is open until nothing is, or a signal comes.

        Args:
            cluster: how many attempts fit at once.
            submit: begins an attempt.
            show: called now and then with the states.
            stop_signal: a function that gives the number of the signal that has come, or 0.
        """
        while not stop_signal():
            self.settle()
            while len(self.running) < cluster.slots() and (state := self.next()):
                state.rounds = rounds_of(state.point)
                state.future = submit(state.point)
                self.report(f"{state.point.name}: started at round {state.rounds}")
            show(self.states)
            if not self.running:
                return
            self.wait()

    @property
    def running(self) -> list[State]:
        """Those that are attempted now."""
        return [state for state in self.states if state.future]

    def wait(self) -> None:
        """Waits until an attempt ends, but not long."""
        futures = [state.future for state in self.states if state.future]
        concurrent.futures.wait(futures, LOOK, concurrent.futures.FIRST_COMPLETED)

    def next(self) -> State | None:
        """The first open run whose round 0 need not be waited for; it may be lent one here."""
        for state in self.states:
            if state.is_open and self._has_round_0(state):
                return state
        return None

    def _has_round_0(self, state: State) -> bool:
        """Whether a run is to begin: it has a round 0, is lent one, or is to train it."""
        if rounds_of(state.point):
            return True
        others = [other for other in self.states if other.key == state.key and other is not state]
        for other in others:
            if rounds_of(other.point):
                try:
                    if sharing.lend(other.point, state.point):
                        self.report(f"{state.point.name}: round 0 is that of {other.point.name}")
                    return True
                except InputError as error:
                    self.report(f"{state.point.name}: no round 0 from {other.point.name}: {error}")
                    return True  # it trains its own, or says why it cannot
        return not any(other.future for other in others)

    def settle(self) -> None:
        """Draws the conclusions from the attempts that have ended."""
        for state in self.states:
            if state.future and state.future.done():
                future, state.future = state.future, None
                error = future.exception()
                status = None if error else future.result()
                try:
                    state.finished = state.point.is_finished()
                except InputError as damaged:  # while it ran
                    self._give_up(state, str(damaged))
                    continue
                if state.finished:
                    self.report(f"{state.point.name}: finished")
                else:
                    self._retry(state, status, describe(status, error))

    def _retry(self, state, status, what):
        """Leaves a run open for another attempt, or gives it up."""
        is_stuck = rounds_of(state.point) == state.rounds
        state.attempts = state.attempts + 1 if is_stuck else 1
        if status in (0, 1) or state.attempts > self.retries:
            self._give_up(state, what)
        else:
            self.report(f"{state.point.name}: {what}; it is started again")

    def _give_up(self, state, what):
        state.failure = what
        self.report(f"{state.point.name}: failed: {what}")


def rounds_of(point: Point) -> int:
    """The finished rounds of a run; none of a damaged one, which says so when it is started."""
    try:
        return point.finished_rounds()
    except InputError:
        return 0


def describe(status: int | None, error: BaseException | None) -> str:
    """What the end of an attempt that did not finish its run means."""
    if status is None:
        text = " ".join(str(error).split())
        return f"its worker was lost ({type(error).__name__}: {text:.120})"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    meaning = {LOST: "another of its workers was lost", PREEMPTED: "stopped by a signal"}
    return meaning.get(status, f"ended with exit status {status}")


def tail(log: pathlib.Path) -> str:
    """The last lines of a log, indented; why there are none."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    except OSError as error:
        lines = [f"{log}: {error.strerror}"]
    return "\n".join(f"    {line}" for line in lines)
