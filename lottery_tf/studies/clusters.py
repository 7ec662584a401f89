"""Where attempts at runs happen: one after another in this process, or on Ray."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from lottery_tf.errors import InputError
from lottery_tf.studies.attempts import Job, attempt

Future = concurrent.futures.Future
PROBE_SECONDS = 5.0
ANSWER_SECONDS = 30.0
INSTALL = "pip install 'lottery_tf[sweep]'"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where attempts happen.

    Args:
        name: what it is, for the user.
        submit: a function of a Job -> Future of the exit status of its attempt.
        slots: a function that gives how many attempts fit at once, now.
        cores: that each attempt is pinned to; 0: none.
    """

    name: str
    submit: Callable[[Job], Future]
    slots: Callable[[], int]
    cores: int


def has_ray() -> bool:
    """Whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


@contextlib.contextmanager
def one_after_another() -> Iterator[Cluster]:
    """Attempts in this process, each on all cores."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield Cluster("one after another", lambda job: pool.submit(attempt, job), lambda: 1, 0)


@contextlib.contextmanager
def on_ray(address: str, *, cpus_per_run: int, gpus_per_run: float | None) -> Iterator[Cluster]:
    """Attempts as tasks of a Ray cluster.

    Args:
        address: of a cluster that is there, or "auto", as ray.init takes it; "" starts one of this
            machine, which ends with this process.
        cpus_per_run: cores of each run, to which it is pinned if it has no GPU.
        gpus_per_run: GPUs of each run, or a part of one. None: one where the cluster has any.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or it is too small.
    """
    if not has_ray():
        raise InputError(f"Ray is not installed: {INSTALL}. Without it, leave --address out.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of it
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    _connect(ray, address)
    try:
        found = ray.cluster_resources()
        gpus = float(found.get("GPU", 0) > 0) if gpus_per_run is None else gpus_per_run
        needed = {"CPU": cpus_per_run, "GPU": gpus}
        for kind, count in needed.items():
            if count > found.get(kind, 0):
                raise InputError(
                    f"--{kind.lower()}s_per_run={count:g}: expected at most the "
                    f"{found.get(kind, 0):g} of the cluster."
                )
        task = ray.remote(attempt).options(num_cpus=cpus_per_run, num_gpus=gpus, max_retries=0)

        def slots():
            has = ray.cluster_resources()
            return min(int(has.get(kind, 0) // count) for kind, count in needed.items() if count)

        name = f"Ray at {address}" if address else "Ray on this machine"
        yield Cluster(
            name, lambda job: task.remote(job).future(), slots, 0 if gpus else cpus_per_run
        )
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Starts Ray here, or connects to a cluster."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        cores = len(os.sched_getaffinity(0))
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **options)
        return
    try:
        _ask(address)
        ray.init(address=address, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError and Ray's own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"--address={address}: there is no Ray cluster that answers ({reason:.300}). Expected "
            "host:port as ray start tells it, auto for the one that this machine is part of, or no "
            "--address, to start one here."
        ) from error


def _ask(address):
    """Raises OSError if nothing, or no Ray cluster, answers at an address; ray.init takes minutes.

    Ray's own command says why, as where it lacks the token that the cluster expects.
    """
    match = re.fullmatch(r"(ray://)?\[?(.+?)\]?:(\d+)", address)
    if not match:
        return
    with socket.create_connection((match[2], int(match[3])), PROBE_SECONDS):
        pass
    if match[1]:  # a client's port, which the command does not know
        return
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address={address}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no answer in {ANSWER_SECONDS:g} s") from None
    if asked.returncode:
        lines = asked.stderr.strip().splitlines() or [f"exit status {asked.returncode}"]
        raise ConnectionError(lines[-1])
