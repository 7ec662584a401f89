"""Where attempts at runs happen: one after another in this process, or on Ray."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib.util
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

from lottery_tf.errors import InputError, not_installed
from lottery_tf.sweeps.processes import Job, attempt
from lottery_tf.sweeps.schedule import Attempt

PROBE_SECONDS = 5.0
ANSWER_SECONDS = 30.0
TOKEN = (
    "If the cluster expects a token, set RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or "
    "in a file that RAY_AUTH_TOKEN_PATH names (by default ~/.ray/auth_token)."
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where attempts happen."""

    submit: Callable[[Job], Attempt]  # begins the attempt at a Job
    slots: Callable[[], int]  # returns how many attempts fit at once, now
    cores: int  # that each attempt is pinned to; 0: none


def has_ray() -> bool:
    """Return whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


@contextlib.contextmanager
def one_after_another() -> Iterator[Cluster]:
    """Yield this process as a Cluster: one attempt at a time, on all cores."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield Cluster(lambda job: pool.submit(attempt, job), lambda: 1, 0)


@contextlib.contextmanager
def on_ray(address: str, *, cpus_per_run: int, gpus_per_run: float | None) -> Iterator[Cluster]:
    """Yield a Ray cluster as a Cluster, whose attempts are tasks.

    Args:
        address: of a running cluster, or "auto", as ray.init takes it; "" starts one of this
            machine, which ends with this process.
        cpus_per_run: cores of each run, which is pinned to them if it has no GPU.
        gpus_per_run: GPUs of each run, or a part of one. None: one where the cluster has any.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or it is too small.
    """
    if not has_ray():
        raise not_installed("ray", "--address" if address else "--cluster=ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray  # an optional dependency

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

        def slots() -> int:
            has = ray.cluster_resources()
            return min(int(has.get(kind, 0) // count) for kind, count in needed.items() if count)

        cores = 0 if gpus else cpus_per_run
        yield Cluster(lambda job: task.remote(job).future(), slots, cores)
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, address: str) -> None:
    """Start Ray on this machine, or connect to a cluster."""
    init = functools.partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    if not address:
        cores = len(os.sched_getaffinity(0))
        try:
            init(address="local", num_cpus=cores, include_dashboard=False)
        except Exception as error:  # OSError, ValueError, RuntimeError and Ray's own
            token = f"{TOKEN} " if _is_about_token(error) else ""
            raise InputError(
                f"Ray cannot start on this machine: {_reason(error)}. {token}Without Ray: "
                "--cluster=none."
            ) from error
        return
    try:
        _probe(address)
        init(address=address)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError and Ray's own
        reason: Exception = error
        if address == "auto" and not _is_about_token(error):
            reason = _refusal([]) or error  # ray.init says only that it cannot connect
        if _is_about_token(reason):
            mode = os.environ.get("RAY_AUTH_MODE", "not set")
            raise InputError(
                f"--address={address}: the Ray cluster refuses this user: its token is missing or "
                f"wrong. {TOKEN} RAY_AUTH_MODE is {mode} now."
            ) from error
        # Through a client's port a wrong token looks like no answer.
        token = f" {TOKEN}" if address.startswith("ray://") else ""
        raise InputError(
            f"--address={address}: no Ray cluster answers ({_reason(error)}). Expected host:port "
            "as ray start prints it, auto for the cluster that this machine is part of, or no "
            f"--address, to start one here.{token}"
        ) from error


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")


def _is_about_token(error: object) -> bool:
    """Return whether an error says that a token is missing or refused."""
    pattern = "[Tt]oken authentication|AuthToken|Authentication|RAY_AUTH"
    return bool(re.search(pattern, f"{type(error)} {error}"))


def _probe(address: str) -> None:
    """Raise OSError if nothing, or no Ray cluster, answers at an address.

    ray.init takes minutes to find out and does not say why, as where a token is missing: Ray's own
    command does.
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


def _refusal(options: list[str]) -> OSError | None:
    """Return why a cluster refuses Ray's own command; None if it answers."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", *options]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return TimeoutError(f"no answer in {ANSWER_SECONDS:g} s")
    if not asked.returncode:
        return None
    lines = asked.stderr.strip().splitlines() or [f"exit status {asked.returncode}"]
    # Where it expects a token and has none, Ray aborts, and a dump of the stack follows.
    return ConnectionError(next((line for line in lines if _is_about_token(line)), lines[-1]))
