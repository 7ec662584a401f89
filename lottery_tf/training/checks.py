"""What can only be said once the data and the devices are known, or the training runs."""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset
from lottery_tf.errors import InputError
from lottery_tf.store import provenance
from lottery_tf.training.devices import Cluster


def check_batch(config: Config, directory: PreparedDataset, cluster: Cluster) -> None:
    """Raises InputError if the batch does not fit the training split or the replicas."""
    examples, batch_size = directory.splits["train"].examples, config.batch_size
    if batch_size > examples:
        raise InputError(
            f"--batch_size: expected at most {examples}, the examples of the training split of "
            f"{config.dataset}. Received: {batch_size}"
        )
    parts = cluster.replicas * config.accumulate_steps
    if batch_size % parts:
        below = batch_size // parts * parts
        nearest = [size for size in (below, below + parts) if 0 < size <= examples]
        each = f" in {config.accumulate_steps} parts each" * (config.accumulate_steps > 1)
        raise InputError(
            f"--batch_size is that of all {cluster.replicas} replicas{each}; expected a multiple "
            f"of {parts}, as {' or '.join(map(str, nearest))}. Received: {batch_size}"
        )


def check_same_data(cluster: Cluster, found: provenance.Fingerprint, where: pathlib.Path) -> None:
    """Raises InputError on every worker if one of them has other data than the chief."""
    content = json.dumps(found, sort_keys=True).encode()
    own = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    chiefs = cluster.broadcast(lambda: {"data": own})["data"]
    (others,) = cluster.sum(np.array([not np.array_equal(own, chiefs)], np.int32))
    if others:
        train = provenance.in_words(found["train"])
        raise InputError(
            f"{others} of {cluster.workers} workers have other data than the chief. Here {where} "
            f"has a training split of {train}. Give all of them the same data."
        )


def use_xla(config: Config, network: Any, cluster: Cluster) -> bool:
    """Whether --jit_compile asks for XLA; "auto" where it is faster, and possible."""
    several = cluster.replicas > 1  # XLA compiles no loop around their collectives
    if several and config.jit_compile == "on":
        raise InputError(
            f"--jit_compile=on expects one replica. Received: {cluster.replicas}. Use "
            "--jit_compile=auto."
        )
    # Kernels of rank above 2 are convolutions, which XLA runs at half speed on a CPU.
    kernels = masking.kernels(network).values()
    convolutional = any(len(kernel.mask.shape) > 2 for kernel in kernels)
    on_cpu = not tf.config.list_logical_devices("GPU")
    auto = config.jit_compile == "auto" and not (convolutional and on_cpu) and not several
    return auto or config.jit_compile == "on"


def not_finite(round: int, epoch: int, step: int, what: str) -> InputError:
    """The InputError of a training that diverged; epoch and step count from 0."""
    return InputError(
        f"Round {round}, epoch {epoch + 1}, step {step}: the {what}. The finished rounds are kept. "
        "Lower --learning_rate, or raise --warmup_epochs, in another --run_dir."
    )
