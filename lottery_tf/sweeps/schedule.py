"""Decides which run of a study is attempted next, and what follows from the end of an attempt.

Why not Ray's own scheduler and retries: Ray knows neither that a run waits for the round 0 of
another one, nor that a finished round begins the count of retries anew, and it is an extra.
"""

import concurrent.futures
import dataclasses
import signal
from collections.abc import Callable, Hashable, Sequence

from lottery_tf.errors import LOST, InputError
from lottery_tf.sweeps import sharing
from lottery_tf.sweeps.grid import Point
from lottery_tf.terminal.signals import PREEMPTED

Attempt = concurrent.futures.Future[int]  # of an exit status
POLL = 0.5  # seconds between two looks at the attempts


@dataclasses.dataclass
class State:
    """How far a run of a study is."""

    point: Point
    key: Hashable  # equal for runs that can share round 0
    failures: int = 0  # attempts that failed since the last round was finished
    rounds: int = 0  # finished when the last attempt began
    attempt: Attempt | None = None  # in progress
    failure: str = ""  # why the run is given up
    finished: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is work left that has not begun."""
        return not (self.attempt or self.failure or self.finished)


class Schedule:
    """The runs of a study and their states.

    Args:
        points: the runs.
        retries: how many attempts in a row may fail without a further finished round.
        report: called with a line on what happens.
    """

    def __init__(self, points: Sequence[Point], *, retries: int, report: Callable[[str], None]):
        self.states = [
            State(point, sharing.key(point.config), finished=point.is_finished())
            for point in points
        ]
        self.retries, self.report = retries, report

    def run(
        self,
        submit: Callable[[Point], Attempt],
        *,
        slots: Callable[[], int],
        show: Callable[[Sequence[State]], None],
        stop_signal: Callable[[], int],
    ) -> None:
        """Attempt all open runs until none is left, or a signal comes.

        `slots` returns how many attempts fit at once, `stop_signal` the number of the signal that
        came, or 0; `show` is called now and then with the states.
        """
        while not stop_signal():
            self._settle()
            while len(self.running) < slots() and (state := self.next()):
                state.rounds = rounds_of(state.point)
                state.attempt = submit(state.point)
                self.report(f"{state.point.name}: started at round {state.rounds}")
            show(self.states)
            if not self.running:
                return
            concurrent.futures.wait(self.running, POLL, concurrent.futures.FIRST_COMPLETED)

    @property
    def running(self) -> list[Attempt]:
        """The attempts in progress."""
        return [state.attempt for state in self.states if state.attempt]

    def next(self) -> State | None:
        """Return the first open run that need not wait for a round 0; lend it one if there is."""
        return next((s for s in self.states if s.is_open and self._can_begin(s)), None)

    def _can_begin(self, state: State) -> bool:
        """Return whether a run has a round 0, is lent one, or is the one to train it."""
        if rounds_of(state.point):
            return True
        others = [other for other in self.states if other.key == state.key and other is not state]
        lender = next((other.point for other in others if rounds_of(other.point)), None)
        if not lender:
            return not any(other.attempt for other in others)
        try:
            if sharing.lend(lender, state.point):
                self.report(f"{state.point.name}: round 0 is that of {lender.name}")
        except InputError as error:  # the run trains its own, or says why it cannot
            self.report(f"{state.point.name}: no round 0 from {lender.name}: {error}")
        return True

    def _settle(self) -> None:
        """Retry, give up or finish the runs whose attempts have ended."""
        for state in self.states:
            if not (state.attempt and state.attempt.done()):
                continue
            error = state.attempt.exception()
            status = None if error else state.attempt.result()
            state.attempt = None
            try:
                state.finished = state.point.is_finished()
            except InputError as damage:  # done while it ran
                self._give_up(state, str(damage))
                continue
            if state.finished:
                self.report(f"{state.point.name}: finished")
                continue
            end = describe(status, error)
            has_grown = rounds_of(state.point) > state.rounds
            state.failures = 1 if has_grown else state.failures + 1
            if status in (0, 1) or state.failures > self.retries:
                self._give_up(state, end)
            else:
                self.report(f"{state.point.name}: {end}; it is started again")

    def _give_up(self, state: State, why: str) -> None:
        state.failure = why
        self.report(f"{state.point.name}: failed: {why}")


def rounds_of(point: Point) -> int:
    """Return the number of finished rounds; 0 of a damaged run, which tells when it is started."""
    try:
        return point.finished_rounds()
    except InputError:
        return 0


def describe(status: int | None, error: BaseException | None) -> str:
    """Say how an attempt ended that did not finish its run; one without a status has an error."""
    if status is None:
        text = " ".join(str(error).split())
        return f"its worker was lost ({type(error).__name__}: {text:.120})"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    meaning = {LOST: "another of its workers was lost", PREEMPTED: "stopped by a signal"}
    return meaning.get(status, f"ended with exit status {status}")
