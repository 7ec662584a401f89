"""Starts runs, one after the other, and stops the one that it started once its parent is gone.

    python starter.py PARENT

PARENT is the process that must stay alive. Standard input is a socket: each request is a line of
JSON with file descriptors beside it, and the answer is the exit status of the run. This file is run
as a script, so that it imports nothing before a request asks for it.

A run of a module is forked from this process after it has imported TensorFlow and the module, which
take longer than a small run; so a worker pays for them once. Any other command is executed.

On Linux this process stays between PARENT and the run, which is its child. A worker of Ray that
loses its driver kills its own children by SIGKILL: this process, but not the run. Whatever ends
this process, the kernel then sends the run SIGTERM, once, and the run saves a checkpoint. A second
SIGTERM would end it before it could.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MOST_BYTES, MOST_DESCRIPTORS = 1 << 16, 256  # of a request


def main() -> None:
    """Fork a process for each request, and answer with the exit status of each."""
    _end_with(int(sys.argv[1]), signal.SIGKILL)
    # Ray blocks SIGINT in its workers, and handles signals in its own way.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    here = os.getpid()
    with socket.socket(fileno=0) as channel:
        while request := _receive(channel):
            job, descriptors = request
            if job["modules"]:
                _import(job)
            process = os.fork()
            if not process:
                channel.detach()
                break
            for descriptor in descriptors:
                os.close(descriptor)
            _, status = os.waitpid(process, 0)
            channel.send(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        else:
            return
    _end_with(here, signal.SIGTERM)
    _run(job, descriptors)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a request and its file descriptors; None once the parent has closed its end."""
    content, descriptors = b"", []
    while not content.endswith(b"\n"):
        part, received, *_ = socket.recv_fds(channel, MOST_BYTES, MOST_DESCRIPTORS)
        if not part:
            return None
        content += part
        descriptors += received
    return json.loads(content), descriptors


def _import(job: dict[str, Any]) -> None:
    """Import what the run imports. Where that fails, the run itself says why."""
    sys.path[0] = job["directory"]  # as python -m has it
    with contextlib.suppress(Exception):
        os.chdir(job["directory"])
        for module in job["modules"]:
            importlib.import_module(module)
    gc.freeze()  # or each run collects what is here when it ends: a second


def _run(job: dict[str, Any], descriptors: list[int]) -> None:
    """Become the run, with its output in the first descriptor; the others are there to be held."""
    if job["cores"]:
        os.sched_setaffinity(0, job["cores"])
    os.chdir(job["directory"])
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((empty, 0), (descriptors[0], 1), (descriptors[0], 2)):
        os.dup2(source, target)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    command = job["command"]
    if not job["modules"]:
        os.execv(sys.executable, [sys.executable, *command[1:]])
    _, _, module, *arguments = command
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(parent: int, number: int) -> None:
    """Ask Linux's kernel to send this process a signal when its parent ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before this process was registered
        sys.exit(75)


if __name__ == "__main__":
    main()
