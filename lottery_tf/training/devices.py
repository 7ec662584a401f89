"""Where a run computes: on one device, on those of a machine, or on several machines.

TensorFlow waits without end for workers that cannot come, deaf to signals, and ends in tracebacks
on odd variables. So what TF_CONFIG or a Slurm step says is checked first, and the workers meet on
their ports before TensorFlow starts.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import pathlib
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from lottery_tf.config import Config
from lottery_tf.errors import InputError, WorkerLost
from lottery_tf.masking import keras_generators
from lottery_tf.pruning import Array, streams
from lottery_tf.runs import files, provenance

# Of TF_CONFIG.
EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
ADDRESS = re.compile(r"[^\s:/\[\]]+:([0-9]{1,5})")
SHOWN = 80  # characters of a wrong value
# Of a Slurm step.
TASKS = "SLURM_STEP_NUM_TASKS"
SLURM = (TASKS, "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")

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


# The process ------------------------------------------------------------------------------------


def take_process(config: Config) -> None:
    """Seed TensorFlow, and make it deterministic if --deterministic asks for it.

    This changes the whole process, so commands alone may call it. A network of the user's own may
    hold random operations of TensorFlow, which take the seed of the process.
    """
    tf.random.set_seed(streams.initialization_seed(config.init_seed, 0))
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def own_process(config: Config) -> Iterator[None]:
    """Call `take_process` for the body; afterwards the process is as it was before."""
    was_deterministic = tf_config.is_op_determinism_enabled()
    with keras_generators.kept():
        try:
            take_process(config)
            yield
        finally:
            if not was_deterministic:
                tf_config.disable_op_determinism()


# The devices ------------------------------------------------------------------------------------


def connect(config: Config) -> "Cluster":
    """Return the Cluster that --strategy asks for; wait for the other workers.

    Raises:
        InputError: the devices or the other workers that the strategy needs are missing.
        WorkerLost: another worker did not come within --worker_timeout.
    """
    if config.cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        now = tf.config.get_logical_device_configuration(cpu) or [cpu]
        if len(now) != config.cpu_devices:
            parts = [tf.config.LogicalDeviceConfiguration()] * config.cpu_devices
            tf.config.set_logical_device_configuration(cpu, parts)
    resolver = find_workers()
    # Asking for logical devices starts the runtime, which several workers must start together.
    kind = config.strategy
    if kind == "auto" and resolver:
        kind = "multi_worker"
    if kind == "multi_worker":
        if not resolver:
            raise InputError(
                "--strategy=multi_worker expects two or more workers in TF_CONFIG, as "
                f"{EXAMPLE}, or in the environment of a Slurm step. Received: "
                f"TF_CONFIG={os.environ.get('TF_CONFIG', '')}"
            )
        return _connect_workers(resolver, config)
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if kind == "mirrored" and len(devices) < 2:
        raise InputError(
            f"--strategy=mirrored expects two or more devices. Found: {devices[0]}. To try it "
            "without GPUs: --cpu_devices=2"
        )
    if kind == "mirrored" or (kind == "auto" and len(gpus) > 1):
        return Cluster(_mirrored(tuple(devices)))
    return Cluster(tf.distribute.OneDeviceStrategy(devices[0]))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the one strategy of the process: a second would reuse its keys of collectives."""
    return tf.distribute.MirroredStrategy(devices)


def _connect_workers(
    resolver: tf.distribute.cluster_resolver.ClusterResolver, config: Config
) -> "Cluster":
    spec = resolver.cluster_spec()
    if set(spec.jobs) != {"worker"} or resolver.task_type != "worker":
        raise InputError(
            "--strategy=multi_worker expects a cluster of workers alone; worker 0 is the chief. "
            f"Received: {spec.as_dict()}, of which this is {resolver.task_type}"
        )
    addresses = spec.job_tasks("worker")
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=config.worker_timeout)
    meet(addresses, resolver.task_id, config.worker_timeout)
    # TensorFlow's connecting cannot be interrupted more gently than by SIGALRM.
    signal.alarm(math.ceil(config.worker_timeout))
    try:
        with naming_the_lost(addresses, resolver.task_id):
            strategy = tf.distribute.MultiWorkerMirroredStrategy(
                cluster_resolver=resolver, communication_options=options
            )
            return Cluster(strategy, addresses, resolver.task_id)
    finally:
        signal.alarm(0)


class Cluster:
    """The devices that compute together, and what their hosts tell one another.

    Args:
        strategy: tf.distribute.Strategy.
        addresses: host:port of each worker; one process by default.
        worker: the index of this one. Worker 0 is the chief: it alone decides and writes.

    Attributes:
        workers, replicas, replicas_here: processes, devices, and devices of this process.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        addresses: Sequence[str] = ("localhost",),
        worker: int = 0,
    ):
        self.strategy, self.addresses, self.worker = strategy, addresses, worker
        self.replicas: int = strategy.num_replicas_in_sync
        self.workers = len(addresses)
        self.replicas_here = self.replicas // self.workers
        self.is_chief = worker == 0

        @tf.function(reduce_retracing=True, autograph=False)
        def add(values: tf.Tensor) -> tf.Tensor:
            def share() -> tf.Tensor:
                first = _replica() % self.replicas_here == 0
                return tf.where(first, values, tf.zeros_like(values))

            return strategy.reduce("SUM", strategy.run(share), axis=None)

        self._add = add

    def sum(self, array: Array) -> Array:
        """Return the sum of every worker's array; all must call it, with the same shape."""
        array = np.asarray(array)
        return self._add(tf.constant(array)).numpy() if self.workers > 1 else array

    def broadcast(self, function: Callable[[], dict]) -> dict:
        """Return on every worker what function() returns on the chief: nested dicts of arrays.

        TensorFlow has no public broadcast between workers: this is a sum, in which the others add
        zeros.
        """
        if self.workers == 1:
            return function()
        content = files.format_npz(_flat(function())) if self.is_chief else b""
        content += bytes(-len(content) % 4)  # travels as int32; zip archives may end in zeros
        (words,) = self.sum(np.array([len(content) // 4], np.int32))
        buffer = np.zeros(words, np.int32)
        buffer[: len(content) // 4] = np.frombuffer(content, np.int32)
        return _nested(files.parse_npz(self.sum(buffer).tobytes()))

    @property
    def replica(self) -> int | tf.Tensor:
        """The index of the replica that is being traced, among all; 0 of one."""
        return _replica() if self.replicas > 1 else 0

    @property
    def replica_here(self) -> int | tf.Tensor:
        """The index of the replica among those of this worker."""
        return self.replica % self.replicas_here

    def copies(self, array: Array) -> tf.Tensor | tf.distribute.DistributedValues:
        """Return the array on each device of this worker."""
        if self.replicas == 1:
            return tf.constant(array)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array)
        )

    def local(self, copies: tf.Tensor | tf.distribute.DistributedValues) -> tf.Tensor:
        """Return one of the arrays that `copies` made."""
        return copies if self.replicas == 1 else self.strategy.experimental_local_results(copies)[0]

    def guard(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which losing another worker raises WorkerLost, which names it."""
        if self.workers == 1:
            return contextlib.nullcontext()
        return naming_the_lost(self.addresses, self.worker)


def _flat(tree: dict, prefix: str = "") -> dict[str, Array]:
    """Return {"outer//inner": array} of nested dicts; no variable's path holds "//"."""
    flat: dict[str, Array] = {}
    for name, value in tree.items():
        key = prefix + name
        flat |= _flat(value, f"{key}//") if isinstance(value, dict) else {key: value}
    return flat


def _nested(flat: dict[str, Array]) -> dict:
    """Return the argument of `_flat`, without its empty dicts."""
    tree: dict = {}
    for name, array in flat.items():
        *outer, last = name.split("//")
        inner = tree
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = array
    return tree


def _replica() -> tf.Tensor:
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def check_same_data(cluster: Cluster, data: provenance.Fingerprint, where: pathlib.Path) -> None:
    """Raise InputError on every worker if one of them has other data than the chief."""
    content = json.dumps(data, sort_keys=True).encode()
    own = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    chiefs = cluster.broadcast(lambda: {"data": own})["data"]
    (others,) = cluster.sum(np.array([not np.array_equal(own, chiefs)], np.int32))
    if others:
        train = provenance.in_words(data["train"])
        raise InputError(
            f"{others} of {cluster.workers} workers have other data than the chief. Here {where} "
            f"has a training split of {train}. Give all of them the same data."
        )


# Who the workers are ------------------------------------------------------------------------------


def find_workers() -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """Return what names several workers: TF_CONFIG, or a Slurm step; None without either.

    Raises:
        InputError: their variables are not as launchers set them.
    """
    if "TF_CONFIG" in os.environ:
        several = count_tasks(os.environ["TF_CONFIG"]) > 1
        return tf.distribute.cluster_resolver.TFConfigClusterResolver() if several else None
    if os.environ.get(TASKS, "1") == "1":
        return None
    gpus = len(tf.config.list_physical_devices("GPU"))
    try:
        options: dict[str, Any] = {"gpus_per_node": gpus}
        if not gpus:  # The resolver expects GPUs: tell it of some, and not to set them.
            tasks = int(os.environ[TASKS])
            options = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
        slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(**options)
        count = slurm.cluster_spec().num_tasks("worker")
        if not 0 <= slurm.task_id < count:
            raise ValueError(f"task {slurm.task_id} of {count}")
    except Exception as error:  # the resolver raises anything on odd variables
        received = ", ".join(f"{name}={os.environ[name]}" for name in SLURM if name in os.environ)
        reason = str(error) or type(error).__name__
        raise InputError(
            f"Expected the variables of a Slurm step, {', '.join(SLURM)}. Received: "
            f"{_shown(received)} ({reason}). Launch with srun, or unset {TASKS} to run on this "
            "machine alone."
        ) from error
    return slurm


def count_tasks(text: str) -> int:
    """Return the number of tasks that TF_CONFIG names; 0 without a cluster.

    Raises:
        InputError: the text is not JSON of jobs, their addresses and this process's task.
    """
    try:
        top = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong("JSON", text, str(error)) from None
    if not isinstance(top, dict):
        raise _wrong("an object", top)
    if not top.get("cluster"):
        return 0
    cluster, task = top["cluster"], top.get("task")
    if not isinstance(cluster, dict):
        raise _wrong('an object of jobs in "cluster"', cluster)
    for job, addresses in cluster.items():
        if not isinstance(addresses, list):
            raise _wrong(f"a list of addresses for the job {_shown(job)}", addresses)
        for address in addresses:
            port = ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if not port or not 0 < int(port[1]) < 65536:
                raise _wrong("addresses as host:port, with a port from 1 to 65535", address)
    everyone = [address for addresses in cluster.values() for address in addresses]
    twice = sorted({address for address in everyone if everyone.count(address) > 1})
    if twice:
        raise _wrong("an address for each task", twice)
    if len(everyone) > 1:
        _check_task(cluster, task)
    return len(everyone)


def _check_task(cluster: dict[str, list[str]], task: Any) -> None:
    if not isinstance(task, dict) or not isinstance(task.get("type"), str):
        raise _wrong('a type and an index in "task"', task)
    kind, index = task["type"], str(task.get("index"))  # some launchers write it as text
    if not cluster.get(kind):
        jobs = ", ".join(map(_shown, cluster))
        raise _wrong(f'one of the jobs {jobs} in the type of "task"', kind)
    count = len(cluster[kind])
    number = int(index) if re.fullmatch("[0-9]{1,9}", index) else -1
    if not 0 <= number < count:
        raise _wrong(
            f'an index from 0 to {count - 1} in "task", a different one for each', task.get("index")
        )


def _wrong(expected: str, received: object, why: str = "") -> InputError:
    return InputError(
        f"TF_CONFIG: expected {expected}, as in {EXAMPLE}. Received: {_shown(received)}"
        + (f" ({why})" if why else "")
    )


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.encode("unicode_escape").decode().split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


# Meeting them, and naming those that are lost -----------------------------------------------------


def meet(addresses: Sequence[str], worker: int, seconds: float) -> None:
    """Return when every worker listens on its port.

    Raises:
        InputError: this worker's port is taken.
        WorkerLost: another worker does not come in time.
    """
    deadline = time.monotonic() + seconds
    try:
        listening = socket.create_server(("", int(addresses[worker].rpartition(":")[2])))
    except OSError as error:
        raise InputError(
            f"Cannot listen on the port of this worker, {addresses[worker]}: {error.strerror}. "
            "Expected a free port of this machine, the same in TF_CONFIG on all of them."
        ) from None
    with listening:
        waiting = set(range(len(addresses))) - {worker}
        while waiting:
            waiting = {index for index in waiting if not _answers(addresses[index])}
            if waiting and time.monotonic() > deadline:
                raise WorkerLost(describe_lost(addresses, worker))
            time.sleep(0.1)


@contextlib.contextmanager
def naming_the_lost(addresses: Sequence[str], worker: int) -> Iterator[None]:
    """Turn what TensorFlow raises when a worker is lost into WorkerLost, which names it."""
    try:
        yield
    except FAILURES as error:
        raise WorkerLost(describe_lost(addresses, worker, str(error))) from None


def describe_lost(addresses: Sequence[str], worker: int, error: str = "") -> str:
    """Return which of the other workers are lost, as their ports and TensorFlow's error say."""
    others = {index: address for index, address in enumerate(addresses) if index != worker}
    lost, what = [i for i, address in others.items() if not _answers(address)], "is not there"
    if not lost:  # a process that hangs keeps its port; TensorFlow may know whom it waited for
        named = {int(task) for task in re.findall(r"/task:(\d+)", error)} & others.keys()
        lost, what = sorted(named or others), "does not answer"
    names = " or ".join(f"worker {index} ({others[index]})" for index in lost)
    return (
        f"Lost {names}, which {what}. Launch all workers again to resume from the latest "
        "checkpoint."
        + (f" TensorFlow says: {error.strip().splitlines()[-1]}" if error.strip() else "")
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PROBE_SECONDS):
            return True
    except OSError:
        return False
