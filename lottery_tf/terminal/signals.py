"""Stops that can be resumed: SIGTERM and Ctrl-C."""

import contextlib
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator

STOPS = (signal.SIGTERM, signal.SIGINT)
PREEMPTED = 75  # exit status after SIGTERM: a checkpoint is saved, launch again


class Interrupted(Exception):
    """SIGINT or SIGTERM came; `signal` is its number, `status` the exit status."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number
        self.status = PREEMPTED if number == signal.SIGTERM else 128 + number

    def advise(self) -> None:
        """Tells the user how to go on."""
        script = pathlib.Path(sys.orig_argv[1]).name  # lottery-imp, where pip installed it
        module = getattr(sys.modules["__main__"], "__spec__", None)
        name = ["python", "-m", module.name if module else sys.argv[0]]
        again = shlex.join([*([script] if script.startswith("lottery-") else name), *sys.argv[1:]])
        print(f"Stopped by {self}. To resume: {again}", file=sys.stderr)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Yields a function that gives the number of the first SIGINT or SIGTERM that came, or 0.

    A second signal acts as if there were no handler.
    """
    came: list[int] = []

    def receive(number, frame):
        came.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, receive) for number in STOPS}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resumable(function: Callable[[Callable[[], int]], object]) -> int:
    """Calls function(stop_signal) with what stop_signals gives; returns the exit status.

    If a signal stops it, the user is told how to go on.
    """
    with stop_signals() as stop_signal:
        try:
            function(stop_signal)
        except Interrupted as interrupted:
            interrupted.advise()
            return interrupted.status
    return 0
