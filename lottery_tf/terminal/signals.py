"""Stops that can be resumed: SIGTERM, a terminal that is closed (SIGHUP), and Ctrl-C."""

import contextlib
import os
import pathlib
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterator

STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PREEMPTED = 75  # exit status after SIGTERM and SIGHUP: a checkpoint is saved, launch again


class Interrupted(Exception):
    """One of STOPS came; `signal` is its number, `status` the exit status."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number
        self.status = 128 + number if number == signal.SIGINT else PREEMPTED

    def advise(self) -> None:
        """Tells the user how to go on."""
        script, *arguments = sys.orig_argv[1:]
        if pathlib.Path(script).name == "lottery":  # where pip installed it
            again = ["lottery", *arguments]
        elif [script, *arguments[:1]] == ["-m", "tools"]:
            again = ["python", script, *arguments]
        else:
            module = getattr(sys.modules["__main__"], "__spec__", None)
            again = ["python", "-m", module.name if module else sys.argv[0], *sys.argv[1:]]
        print(f"Stopped by {self}. To resume: {shlex.join(again)}", file=sys.stderr)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Yields a function that gives the number of the first of STOPS that came, or 0.

    A second signal acts as if there were no handler, but for SIGHUP, which a kernel and a shell may
    both send. Where SIGHUP is ignored, as under nohup, it stays so.
    """
    came: list[int] = []

    def receive(number, frame):
        came.append(number)
        if number == signal.SIGHUP:
            leave_terminal()
        else:
            signal.signal(number, before[number])

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, receive) for number in STOPS if number not in ignored}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_terminal() -> None:
    """Sends what is still written to a terminal that is gone to nowhere: else writing fails."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed
            is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if is_device and not os.isatty(descriptor):  # no longer a terminal, or /dev/null
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


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
