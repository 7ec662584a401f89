"""The cores of a machine, each held by one run at a time, whoever started it. No NumPy."""

import contextlib
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import filelock

from lottery_tf.errors import InputError

WAIT = 0.5  # seconds between two looks


@contextlib.contextmanager
def hold(count: int, keep_waiting: Callable[[], bool]) -> Iterator[dict[int, int]]:
    """Yields {core: file descriptor} of so many cores that this process may use and none holds.

    A core is held as long as a process has its descriptor open: a child that inherits it goes on
    holding it when this process is killed. It waits for cores that are not free.

    Args:
        count: how many.
        keep_waiting: a function that says whether to wait on; else it yields {}.
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


def _take(cores: Iterable[int], count: int) -> dict[int, int]:
    """{core: descriptor} of the first free ones; all that are asked for, or none."""
    try:
        directory = pathlib.Path(tempfile.gettempdir()) / f"lottery_tf_cores_{os.getuid()}"
        directory.mkdir(exist_ok=True)
    except OSError as error:  # none that can be written, of those that it names
        raise InputError(
            f"Cores are shared by files in a temporary directory: {error}. Set TMPDIR to a "
            "directory that can be written."
        ) from None
    held: dict[int, int] = {}
    for core in cores:
        descriptor = os.open(directory / str(core), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            is_free = filelock.lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            os.close(descriptor)
            raise InputError(
                f"Cannot lock {directory / str(core)}: {error.strerror}. Set TMPDIR to a directory "
                "of a file system with locks (flock), best a local one."
            ) from None
        if not is_free:
            os.close(descriptor)
            continue
        held[core] = descriptor
        if len(held) == count:
            return held
    for descriptor in held.values():
        os.close(descriptor)
    return {}
