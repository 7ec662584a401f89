"""Becomes a command, on some cores, that ends when the process that started it does. Stdlib only.

    python starter.py PARENT CORES COMMAND…

PARENT is the process that must still be there; CORES are numbers with commas, or nothing for all.
It is run as a file, so that it imports nothing else.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Sets what the command inherits, then is the command."""
    parent, cores, *command = sys.argv[1:]
    if sys.platform == "linux":  # where there is none of it, runs are stopped, but not killed
        if cores:
            os.sched_setaffinity(0, map(int, cores.split(",")))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it went before it was watched
        sys.exit(75)
    # Ray blocks SIGINT in its workers; what it handles is its own.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
