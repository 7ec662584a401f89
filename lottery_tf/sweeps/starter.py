"""Runs a command on given cores, and stops it once its parent is gone. Stdlib only.

    python starter.py PARENT CORES COMMAND…

PARENT is the process that must stay alive; CORES are numbers with commas, or nothing for all. This
file is run as a script, so that it imports nothing else.

On Linux this process stays between PARENT and the command, which is its child. A worker of Ray that
loses its driver kills its own children by SIGKILL: this process, but not the command. Whatever ends
this process, the kernel then sends the command SIGTERM, once, and the run saves a checkpoint. A
second SIGTERM would end it before it could.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Set what the command inherits, run it, and end as it does."""
    parent, cores, *command = sys.argv[1:]
    if sys.platform == "linux":
        if cores:
            os.sched_setaffinity(0, map(int, cores.split(",")))
        _end_with(int(parent), signal.SIGKILL)
    # Ray blocks SIGINT in its workers, and handles signals in its own way.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        here = os.getpid()
        if process := os.fork():
            _, status = os.waitpid(process, 0)
            _end_as(os.waitstatus_to_exitcode(status))
        _end_with(here, signal.SIGTERM)
    os.execv(command[0], command)


def _end_with(parent: int, number: int) -> None:
    """Ask the kernel to send this process a signal when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before this process was registered
        sys.exit(75)


def _end_as(status: int) -> None:
    """End with an exit status, or where it is negative by the signal of that number."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command wrote the dump
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)  # Python ignores SIGPIPE
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
