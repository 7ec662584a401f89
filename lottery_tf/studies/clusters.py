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

from lottery_tf.errors import InputError, not_installed
from lottery_tf.studies.attempts import Job, attempt

Future = concurrent.futures.Future
PROBE_SECONDS = 5.0
ANSWER_SECONDS = 30.0
TOKEN = (
    "If the cluster expects a token, set RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or "
    "in a file that RAY_AUTH_TOKEN_PATH names (by default ~/.ray/auth_token)."
)


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
        raise not_installed("ray", "--address" if address else "--cluster=ray")
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
        try:
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **options)
        except Exception as error:  # OSError, ValueError, RuntimeError and Ray's own
            raise InputError(
                f"Ray cannot start on this machine: {_reason(error)}. "
                f"{TOKEN + ' ' if _is_about_token(error) else ''}Without Ray: --cluster=none."
            ) from error
        return
    try:
        _ask(address)
        ray.init(address=address, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError and Ray's own
        told: Exception = error
        if address == "auto" and not _is_about_token(error):
            told = _refusal([]) or error  # ray.init says only that it cannot connect
        if _is_about_token(told):
            mode = os.environ.get("RAY_AUTH_MODE", "not set")
            raise InputError(
                f"--address={address}: the Ray cluster refuses this user: its token is missing or "
                f"wrong. {TOKEN} RAY_AUTH_MODE is {mode} now."
            ) from error
        client = address.startswith("ray://")  # where a wrong token looks like no answer
        raise InputError(
            f"--address={address}: there is no Ray cluster that answers ({_reason(error)}). "
            "Expected host:port as ray start tells it, auto for the one that this machine is part "
            f"of, or no --address, to start one here.{' ' + TOKEN if client else ''}"
        ) from error


def _reason(error):
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")


def _is_about_token(error):
    """Whether a cluster, or Ray's own check, refused a token, or that there is none."""
    return bool(
        re.search(
            "[Tt]oken authentication|AuthToken|Authentication|RAY_AUTH", f"{type(error)} {error}"
        )
    )


def _ask(address):
    """Raises OSError if nothing, or no Ray cluster, answers at an address.

    ray.init takes minutes to find out, and does not say why: Ray's own command does, as where the
    token is missing that the cluster expects.
    """
    match = re.fullmatch(r"(ray://)?\[?(.+?)\]?:(\d+)", address)
    if not match:
        return
    with socket.create_connection((match[2], int(match[3])), PROBE_SECONDS):
        pass
    if match[1]:  # a client's port, which the command does not know
        return
    if refusal := _refusal([f"--address={address}"]):
        raise refusal


def _refusal(options):
    """What Ray's own command has against a cluster, as an OSError; None if the cluster answers."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", *options]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return TimeoutError(f"no answer in {ANSWER_SECONDS:g} s")
    if not asked.returncode:
        return None
    lines = asked.stderr.strip().splitlines() or [f"exit status {asked.returncode}"]
    # Without a token in the mode that expects one, Ray aborts, and a dump of the stack follows.
    return ConnectionError(next((line for line in lines if _is_about_token(line)), lines[-1]))
