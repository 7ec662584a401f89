"""Where a run computes: on one device, on those of a machine, or on several machines."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators
from lottery_tf.pruning import Array, streams
from lottery_tf.runs import files
from lottery_tf.training import launchers
from lottery_tf.training.workers import alarm, meet, naming_the_lost


def take_process(config: Config) -> None:
    """Seed TensorFlow, and let it be deterministic if --deterministic asks for it.

    This changes the whole process, so commands alone may call it. A network of the user's own may
    hold random operations of TensorFlow, which take the seed of the process.
    """
    tf.random.set_seed(streams.initialization_seed(config.init_seed, 0))
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def own_process(config: Config) -> Iterator[None]:
    """Inside, the process is as `take_process` makes it; afterwards, as it was before."""
    was_deterministic = tf_config.is_op_determinism_enabled()
    with keras_generators.kept():
        try:
            take_process(config)
            yield
        finally:
            if not was_deterministic:
                tf_config.disable_op_determinism()


def connect(config: Config) -> "Cluster":
    """The Cluster that --strategy asks for; waits for the other workers.

    Raises:
        InputError: there are not the devices or the other workers that the strategy needs.
        WorkerLost: another worker did not come within --worker_timeout.
    """
    _split_cpu(config.cpu_devices)
    resolver = launchers.resolver()
    # Asking for logical devices starts the runtime, which several workers must start together.
    kind = config.strategy
    if kind == "auto" and resolver:
        kind = "multi_worker"
    if kind == "multi_worker":
        if not resolver:
            raise InputError(
                "--strategy=multi_worker expects two or more workers in TF_CONFIG, as "
                f"{launchers.EXAMPLE}, or in the environment of a Slurm step. Received: "
                f"TF_CONFIG={os.environ.get('TF_CONFIG', '')}"
            )
        return _several_hosts(resolver, config)
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
def _mirrored(devices):
    """One strategy per process: a second one would use the first one's keys of collectives."""
    return tf.distribute.MirroredStrategy(devices)


def _split_cpu(count):
    """Makes `count` logical devices of the CPU."""
    if count == 1:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [cpu]) != count:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)


def _several_hosts(resolver, config):
    spec = resolver.cluster_spec()
    if set(spec.jobs) != {"worker"} or resolver.task_type != "worker":
        raise InputError(
            "--strategy=multi_worker expects a cluster of workers alone; worker 0 is the chief. "
            f"Received: {spec.as_dict()}, of which this is {resolver.task_type}"
        )
    addresses = spec.job_tasks("worker")
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=config.worker_timeout)
    meet(addresses, resolver.task_id, config.worker_timeout)
    with (
        naming_the_lost(addresses, resolver.task_id),
        alarm(config.worker_timeout),
    ):
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver, communication_options=options
        )
        return Cluster(strategy, addresses, resolver.task_id)


class Cluster:
    """The devices that compute together, and what their hosts tell one another.

    Args:
        strategy: tf.distribute.Strategy.
        addresses: host:port of each worker; one process by default.
        worker: the index of this one. Worker 0 is the chief: it alone decides and writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy, addresses: Sequence[str] = ("localhost",),
                 worker: int = 0):  # fmt: skip
        self.strategy, self.addresses, self.worker = strategy, addresses, worker
        self.replicas = strategy.num_replicas_in_sync
        self.workers = len(addresses)
        self.replicas_here = self.replicas // self.workers
        self.is_chief = worker == 0

        @tf.function(reduce_retracing=True)
        def add(values):
            def share():
                first = _replica() % self.replicas_here == 0
                return tf.where(first, values, tf.zeros_like(values))

            return strategy.reduce("SUM", strategy.run(share), axis=None)

        self._add = add

    def sum(self, array: Array) -> Array:
        """The sum of every worker's array, which all call with the same shape."""
        array = np.asarray(array)
        return self._add(tf.constant(array)).numpy() if self.workers > 1 else array

    def broadcast(self, function: Callable[[], dict]) -> dict:
        """What function() gives on the chief, on every worker: dicts, nested or not, of arrays."""
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
        """The index of the replica that is being traced, of all; 0 of one."""
        return _replica() if self.replicas > 1 else 0

    @property
    def replica_here(self) -> int | tf.Tensor:
        """The index of the replica among those of this worker."""
        return self.replica % self.replicas_here

    def copies(self, array: Array) -> tf.Tensor | tf.distribute.DistributedValues:
        """The array on each device of this worker."""
        if self.replicas == 1:
            return tf.constant(array)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array)
        )

    def local(self, copies: tf.Tensor | tf.distribute.DistributedValues) -> tf.Tensor:
        """One of what `copies` gave."""
        return copies if self.replicas == 1 else self.strategy.experimental_local_results(copies)[0]

    def guard(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the loss of another worker becomes WorkerLost, which names it."""
        if self.workers == 1:
            return contextlib.nullcontext()
        return naming_the_lost(self.addresses, self.worker)


def _flat(tree, prefix=""):
    """{"outer//inner": array} of nested dicts; no variable's path holds "//"."""
    flat = {}
    for name, value in tree.items():
        key = prefix + name
        flat |= _flat(value, f"{key}//") if isinstance(value, dict) else {key: value}
    return flat


def _nested(flat):
    """What `_flat` was given, but for empty dicts."""
    tree = {}
    for name, array in flat.items():
        *outer, last = name.split("//")
        inner = tree
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = array
    return tree


def _replica():
    return tf.distribute.get_replica_context().replica_id_in_sync_group
