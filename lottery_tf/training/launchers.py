"""Who the workers are: what TF_CONFIG or a Slurm step says, checked before TensorFlow reads it.

TensorFlow would end in a traceback, or wait for a worker that cannot come.
"""

import json
import os
import re
from typing import Any

import tensorflow as tf

from lottery_tf.errors import InputError

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
ADDRESS = re.compile(r"[^\s:/\[\]]+:([0-9]{1,5})")
SHOWN = 80  # characters of a wrong value
TASKS = "SLURM_STEP_NUM_TASKS"
SLURM = (TASKS, "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")


def resolver() -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """What names several workers: TF_CONFIG, or the environment of a Slurm step; None without.

    Raises:
        InputError: these variables are not as such launchers set them.
    """
    if "TF_CONFIG" in os.environ:
        several = count_tasks(os.environ["TF_CONFIG"]) > 1
        return tf.distribute.cluster_resolver.TFConfigClusterResolver() if several else None
    if os.environ.get(TASKS, "1") == "1":
        return None
    gpus = len(tf.config.list_physical_devices("GPU"))
    try:
        options: dict[str, Any] = {"gpus_per_node": gpus}
        if not gpus:  # It knows no nodes without: it is told of some, and not to set them.
            tasks = int(os.environ[TASKS])
            options = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
        slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(**options)
        count = slurm.cluster_spec().num_tasks("worker")
        if not 0 <= slurm.task_id < count:
            raise ValueError(f"task {slurm.task_id} of {count}")
    except Exception as error:  # what it makes of odd variables is of any kind
        found = ", ".join(f"{name}={os.environ[name]}" for name in SLURM if name in os.environ)
        reason = str(error) or type(error).__name__
        raise InputError(
            f"Expected the variables of a Slurm step, {', '.join(SLURM)}. Received: "
            f"{_shown(found)} ({reason}). Launch with srun, or unset {TASKS} to run on this "
            "machine alone."
        ) from error
    return slurm


def count_tasks(text: str) -> int:
    """The number of tasks that TF_CONFIG names; 0 without a cluster.

    Raises:
        InputError: it is no JSON of jobs, their addresses and this process's task.
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
        _check_addresses(job, addresses)
    everyone = [address for addresses in cluster.values() for address in addresses]
    twice = sorted({address for address in everyone if everyone.count(address) > 1})
    if twice:
        raise _wrong("an address for each task", twice)
    if len(everyone) > 1:
        _check_task(cluster, task)
    return len(everyone)


def _check_addresses(job, addresses):
    if not isinstance(addresses, list):
        raise _wrong(f"a list of addresses for the job {_shown(job)}", addresses)
    for address in addresses:
        port = ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not port or not 0 < int(port[1]) < 65536:
            raise _wrong("addresses as host:port, with a port from 1 to 65535", address)


def _check_task(cluster, task):
    if not isinstance(task, dict) or not isinstance(task.get("type"), str):
        raise _wrong('a type and an index in "task"', task)
    kind, index = task["type"], task.get("index")
    if not cluster.get(kind):
        raise _wrong(
            f'one of the jobs {", ".join(map(_shown, cluster))} in the type of "task"', kind
        )
    count = len(cluster[kind])
    # Some launchers write the index as text.
    number = int(index) if re.fullmatch("[0-9]{1,9}", str(index)) else -1
    if not 0 <= number < count:
        raise _wrong(f'an index from 0 to {count - 1} in "task", one of its own for each', index)


def _wrong(expected: str, found: Any, why: str = "") -> InputError:
    return InputError(
        f"TF_CONFIG: expected {expected}, as in {EXAMPLE}. Received: {_shown(found)}"
        + (f" ({why})" if why else "")
    )


def _shown(value):
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.encode("unicode_escape").decode().split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
