"""One attempt at a run: its command as a process of its own, here or on another machine."""

import dataclasses
import datetime
import os
import pathlib
import select
import shlex
import signal
import subprocess
import sys
import time

import filelock

from lottery_tf.studies import cores, starter

POLL = 0.2  # seconds
PATIENCE = 60.0  # seconds for the attempt before, whose starter was killed, to save a checkpoint
# A worker's own, whatever the sweep's are: Ray says here which GPUs a task has.
OF_WORKER = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process needs to make a run; all paths are absolute, and seen by every machine.

    Args:
        command: of the run, "python" first.
        directory: the current one.
        environment: variables, those of the sweep.
        run_dir: the run's.
        log: file for what the run prints, added to what is there.
        cores: that it is pinned to, with thread pools of their number; 0: all, unpinned.
        stop_file: when it exists, the run is stopped.
    """

    command: tuple[str, ...]
    directory: str
    environment: dict[str, str]
    run_dir: str
    log: str
    cores: int
    stop_file: str


def attempt(job: Job) -> int:
    """Runs a Job to its end; its exit status, or minus the number of the signal that killed it.

    When the stop file comes, the run gets SIGTERM, saves a checkpoint, and ends with status 75. The
    same happens when this process is killed, at least on Linux (see starter.py).
    """
    if sys.platform != "linux":
        return _run(job, {})
    _wait_for_the_one_before(job)
    with cores.hold(job.cores, lambda: not os.path.exists(job.stop_file)) as held:
        return _run(job, held)


def _wait_for_the_one_before(job):
    """Waits for a run whose starter was killed; a run of someone else's is not waited for long."""
    lock, deadline = pathlib.Path(job.run_dir) / ".lock", time.monotonic() + PATIENCE
    while lock.exists() and time.monotonic() < deadline and not os.path.exists(job.stop_file):
        try:
            with open(lock, "r+") as file:
                if filelock.lock_descriptor(file.fileno(), blocking=False):
                    return
        except OSError:  # the run itself says what is wrong
            return
        time.sleep(POLL)


def _run(job, held):
    """The exit status of a Job on the cores that are held."""
    if os.path.exists(job.stop_file):
        return 75
    on = ",".join(map(str, held))
    become = [sys.executable, starter.__file__, str(os.getpid()), on]
    command = [*become, sys.executable, *job.command[1:]]
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    # The run holds `there` open: at the other end the pipe closes when the run has ended, whatever
    # has become of its starter.
    here, there = os.pipe()
    try:
        with open(job.log, "a") as log:
            log.write(f"{now} {shlex.join(job.command)}{f' on cores {on}' if on else ''}\n")
            log.flush()
            # In a session of its own Ctrl-C does not reach it: the stop file stops it, once.
            process = subprocess.Popen(
                command, cwd=job.directory, env=environment(job), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, pass_fds=[*held.values(), there],
            )  # fmt: skip
    except BaseException:
        os.close(here)
        raise
    finally:
        os.close(there)
    stopped = False
    try:
        while process.poll() is None:
            if not stopped and os.path.exists(job.stop_file):
                process.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(POLL)
        # The starter may end before the run does: the run is then saving a checkpoint.
        end = select.poll()
        end.register(here)
        end.poll(None if stopped else 1000 * PATIENCE)
    except BaseException:  # the worker is told to go
        process.send_signal(signal.SIGTERM)
        raise
    finally:
        os.close(here)
    return 75 if stopped else process.returncode


def environment(job: Job) -> dict[str, str]:
    """The variables of a run: the sweep's, the worker's own, and the size of its thread pools."""
    found = job.environment | {name: os.environ[name] for name in OF_WORKER if name in os.environ}
    if job.cores:
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
            found[name] = str(job.cores)
    return found
