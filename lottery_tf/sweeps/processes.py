"""Attempts at a run: its command as a process of its own, on cores that no other run has.

Why not a library: Ray places runs on machines, but pins nothing to cores and ends them by SIGKILL,
before they can save a checkpoint. The lock of a core must outlive the process that took it, because
the run inherits it: filelock's function of a descriptor does that, its classes do not.
"""

import atexit
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import filelock

from lottery_tf.config.environment import uses_onednn
from lottery_tf.errors import InputError
from lottery_tf.sweeps import starter

POLL = 0.2  # seconds between two looks at a process
WAIT = 0.5  # seconds between two looks for free cores
PATIENCE = 60.0  # seconds for an earlier attempt, whose starter was killed, to save a checkpoint
# Variables of a worker that win over those of the sweep: Ray says here which GPUs a task has.
OF_WORKER = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
PRELOADED = ["lottery_tf.sweeps.preloaded"]
_IDLE: "list[Starter]" = []
OF_POOLS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process needs to make a run; all paths are absolute, and the same on every machine."""

    command: tuple[str, ...]  # of the run, "python" first
    directory: str  # the working directory
    environment: dict[str, str]  # variables of the sweep
    run_dir: str
    log: str  # file to which the output of the run is appended
    cores: int  # how many the run is pinned to, with thread pools of that size; 0: all, unpinned
    stop_file: str  # the run is stopped when this file exists

    def is_stopped(self) -> bool:
        """Return whether the stop file exists."""
        return os.path.exists(self.stop_file)


@dataclasses.dataclass(frozen=True)
class Starter:
    """A process of starter.py."""

    environment: dict[str, str]
    process: subprocess.Popen
    channel: socket.socket

    def end(self) -> int:
        """End the process, if it has not ended; return its exit status."""
        self.process.kill()
        self.channel.close()
        return self.process.wait()


def attempt(job: Job) -> int:
    """Run a Job to its end; return its exit status, or minus the signal that killed it.

    When the stop file appears, the run gets SIGTERM, saves a checkpoint and ends; the status is 75.
    On Linux the same happens when this process is killed (see starter.py).
    """
    if sys.platform != "linux":
        return _run(job, {})
    _wait_for_earlier_attempt(job)
    with hold_cores(job.cores, lambda: not job.is_stopped()) as held:
        return _run(job, held)


def _wait_for_earlier_attempt(job: Job) -> None:
    """Wait for a run whose starter was killed, but for PATIENCE at most: it may be another's."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # there is no lock, or the run itself says what is wrong
        while time.monotonic() < deadline and not job.is_stopped():
            with open(pathlib.Path(job.run_dir) / ".lock", "r+") as file:
                if filelock.lock_descriptor(file.fileno(), blocking=False):
                    return
            time.sleep(POLL)


def _run(job: Job, held: Mapping[int, int]) -> int:
    """Return the exit status of a Job on the cores {core: file descriptor} that are held."""
    if job.is_stopped():
        return 75
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    on = f" on cores {','.join(map(str, held))}" if held else ""
    begun = _starter(_environment(job))
    request = {
        "command": job.command,
        "directory": job.directory,
        "cores": list(held),
        "modules": PRELOADED if _can_be_forked(job) else [],
    }
    # The run inherits the writing end of a pipe: it closes when the run has ended, even if the
    # starter ended before.
    reading, writing = os.pipe()
    with open(reading, "rb") as ended:
        try:
            with open(job.log, "a") as log:
                log.write(f"{now} {shlex.join(job.command)}{on}\n")
                log.flush()
                content = f"{json.dumps(request)}\n".encode()
                passed = [log.fileno(), writing, *held.values()]
                socket.send_fds(begun.channel, [content], passed)
        finally:
            os.close(writing)
        stopped = False
        try:
            while not select.select([begun.channel], [], [], POLL)[0]:
                if not stopped and job.is_stopped():
                    begun.process.send_signal(signal.SIGTERM)
                    stopped = True
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = begun.channel.recv(64)
            # Where the starter was killed, the run is now saving a checkpoint.
            end = select.poll()
            end.register(ended)
            end.poll(None if stopped else 1000 * PATIENCE)
        except BaseException:  # the worker is told to go
            begun.process.send_signal(signal.SIGTERM)
            raise
    if answer:
        _IDLE.append(begun)
    status = int(answer) if answer else begun.end()
    return 75 if stopped else status


def _can_be_forked(job: Job) -> bool:
    """Return whether a run may be forked from a process that has imported what new runs import.

    A run that was made without oneDNN imports TensorFlow otherwise. Elsewhere than on Linux,
    libraries of the system do not outlive a fork.
    """
    is_run = job.command[:3] == ("python", "-m", "lottery_tf.imp")
    as_new = uses_onednn(pathlib.Path(job.run_dir)) is True
    return is_run and as_new and sys.platform == "linux"


def _starter(environment: dict[str, str]) -> Starter:
    """Return an idle starter with these variables, or a new one; end those with others.

    The kernel ends a starter with the thread that began it.
    """
    while _IDLE:
        known = _IDLE.pop()
        if known.environment == environment and known.process.poll() is None:
            return known
        known.end()
    channel, other = socket.socketpair()
    with other:
        process = subprocess.Popen(
            [sys.executable, starter.__file__, str(os.getpid())],
            env=environment,
            stdin=other.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C does not reach the run: the stop file does, once
        )
    return Starter(environment, process, channel)


@atexit.register
def _end_idle() -> None:
    while _IDLE:
        _IDLE.pop().end()


def _environment(job: Job) -> dict[str, str]:
    """Return the variables of the run: the sweep's, the worker's, and the size of thread pools."""
    of_worker = {name: os.environ[name] for name in OF_WORKER if name in os.environ}
    pools = dict.fromkeys(OF_POOLS if job.cores else (), str(job.cores))
    return job.environment | of_worker | pools


@contextlib.contextmanager
def hold_cores(count: int, keep_waiting: Callable[[], bool]) -> Iterator[dict[int, int]]:
    """Wait for free cores of this machine and hold them; yield {core: file descriptor}.

    A core is held as long as any process has its descriptor open: a child that inherits it holds
    the core even when this process is killed.

    Args:
        count: how many of the cores that this process may use.
        keep_waiting: asked before each look; once it returns False, {} is yielded.
    """
    cores = sorted(os.sched_getaffinity(0))
    held: dict[int, int] = {}
    try:
        while len(held) < count and keep_waiting():
            held = _take(cores, count)
            if not held:
                time.sleep(WAIT)
        yield held
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def cores_held() -> tuple[int, int]:
    """Return how many of the cores that this process may use are held, and how many there are."""
    if sys.platform != "linux":  # no one holds any
        return 0, 0
    cores = os.sched_getaffinity(0)
    held = 0
    for core in cores:
        if taken := _take([core], 1):
            os.close(taken[core])
        else:
            held += 1
    return held, len(cores)


def _take(cores: Iterable[int], count: int) -> dict[int, int]:
    """Return {core: descriptor} of the first free cores; {} if there are fewer than asked for."""
    try:
        directory = pathlib.Path(tempfile.gettempdir()) / f"lottery_tf_cores_{os.getuid()}"
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cores are shared by files in a temporary directory: {error}. Set TMPDIR to a "
            "writable directory."
        ) from None
    held: dict[int, int] = {}
    for core in cores:
        if len(held) == count:
            break
        descriptor = os.open(directory / str(core), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            is_free = filelock.lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            os.close(descriptor)
            raise InputError(
                f"Cannot lock {directory / str(core)}: {error.strerror}. Set TMPDIR to a directory "
                "on a file system with locks (flock), best a local one."
            ) from None
        if is_free:
            held[core] = descriptor
        else:
            os.close(descriptor)
    if len(held) == count:
        return held
    for descriptor in held.values():
        os.close(descriptor)
    return {}
