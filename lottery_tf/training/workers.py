"""The other workers: meeting them, and naming those that are lost."""

import contextlib
import math
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf

from lottery_tf.errors import InputError, WorkerLost

PROBE_SECONDS = 5.0
# What TensorFlow raises when a worker dies or does not answer.
FAILURES = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


def meet(addresses: Sequence[str], worker: int, seconds: float) -> None:
    """Returns when every worker listens on its port; WorkerLost if one does not come in time.

    TensorFlow would wait for it without end, deaf to signals.
    """
    deadline = time.monotonic() + seconds
    with _listening(addresses[worker]):
        waiting = set(range(len(addresses))) - {worker}
        while waiting:
            waiting = {index for index in waiting if not _answers(addresses[index])}
            if waiting and time.monotonic() > deadline:
                raise WorkerLost(_lost(addresses, worker, ""))
            time.sleep(0.1)


def _listening(address):
    try:
        return socket.create_server(("", int(address.rpartition(":")[2])))
    except OSError as error:
        raise InputError(
            f"Cannot listen on the port of this worker, {address}: {error.strerror}. Expected a "
            "free port of this machine, the same in TF_CONFIG on all of them."
        ) from None


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Ends the process by SIGALRM if the body takes longer; there is no gentler way out of it."""
    signal.alarm(math.ceil(seconds))
    try:
        yield
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def naming_the_lost(addresses: Sequence[str], worker: int) -> Iterator[None]:
    """Turns what TensorFlow raises when a worker is lost into WorkerLost, which names it."""
    try:
        yield
    except FAILURES as error:
        raise WorkerLost(_lost(addresses, worker, error)) from None


def _lost(addresses, worker, error):
    others = {index: address for index, address in enumerate(addresses) if index != worker}
    gone, what = [i for i, address in others.items() if not _answers(address)], "is not there"
    if not gone:  # a process that hangs keeps its port; TensorFlow may know whom it waited for
        named = {int(task) for task in re.findall(r"/task:(\d+)", str(error))} & others.keys()
        gone, what = sorted(named or others), "does not answer"
    names = " or ".join(f"worker {index} ({others[index]})" for index in gone)
    text = str(error).strip()
    return (
        f"Lost {names}, which {what}. Launch all workers again, to go on from the last checkpoint."
        + (f" TensorFlow says: {text.splitlines()[-1]}" if text else "")
    )


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PROBE_SECONDS):
            return True
    except OSError:
        return False
