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
from lottery_tf.pruning import Array
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.runs import provenance
from lottery_tf.training.devices import Cluster
from lottery_tf.training.training import Training

MOST_UPDATES = 2**28  # of a round: days of training; their learning rates take 5 GB to compute
PAPERS_REPEL = 2  # its strongest repulsion


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


def check_updates(config: Config, steps_per_epoch: int) -> None:
    """Raise InputError if a round has more updates than can be planned."""
    for name in ("epochs", "finetune_epochs"):
        updates = (getattr(config, name) or 0) * steps_per_epoch
        if updates > MOST_UPDATES:
            raise InputError(
                f"--{name}={getattr(config, name)}: expected at most {MOST_UPDATES} updates in a "
                f"round, so {MOST_UPDATES // steps_per_epoch} epochs of these data. Received: "
                f"{updates} updates"
            )


def rewind_step(config: Config, steps_per_epoch: int) -> int:
    """The step of --rewind_to, 0 without; InputError if it lies behind the end of training."""
    step = parse_step("--rewind_to", config.rewind_to or "0", steps_per_epoch)
    steps = config.epochs * steps_per_epoch
    if step >= steps:
        raise InputError(
            f"--rewind_to={config.rewind_to}: expected a step before the end of training, {steps}. "
            f"Received: {step}"
        )
    return step


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


def running_means(engine: Any, training: Training, totals: Array) -> tuple[float, float]:
    """(loss, accuracy) of an epoch so far, from Trainer.totals.

    Raises:
        InputError: the loss was not finite; it names the first update at which.
    """
    bad = totals[:, 3][totals[:, 3] > 0]
    if bad.size:
        updates = int(bad.min()) - 1  # before it
        step = training.first + updates
        epoch, what = step // engine.steps_per_epoch, "loss is not finite"
        raise not_finite(engine.config, training, epoch, step, what, updated=updates > 0)
    loss, hits, examples, _ = totals.sum(0)
    return float(loss / examples), float(hits / examples)


def not_finite(config: Config, training: Training, epoch: int, step: int, what: str, *,
               updated: bool = True) -> InputError:  # fmt: skip
    """The InputError of a training that diverged; epoch and step count from 0.

    `updated` is as in `remedies`.
    """
    ways = remedies(config, repelled=bool(training.optima), updated=updated)
    return InputError(
        f"Round {training.noise.round}, epoch {epoch + 1}, step {step}: the {what}. The finished "
        f"rounds are kept. In another --run_dir, {', or '.join(ways)}."
    )


def remedies(config: Config, *, repelled: bool, updated: bool) -> list[str]:
    """What may keep the loss of a training finite, the likeliest first.

    Args:
        config: Config.
        repelled: whether the repellent loss is part of it.
        updated: whether an update came before; else the learning rate is not to blame.
    """
    found = []
    if updated:
        found.append(f"lower --learning_rate={config.learning_rate:g}")
        if not config.warmup_epochs:
            found.append("raise --warmup_epochs")
        if config.learning_rate * config.weight_decay > 1:  # more than the whole weight
            found.insert(0, f"lower --weight_decay={config.weight_decay:g}")
    if repelled:
        place = 0 if abs(config.repel) > PAPERS_REPEL else len(found)
        found.insert(place, f"bring --repel={config.repel:g} nearer to 0")
    if config.mixed_precision == "float16":
        found.append("use --mixed_precision=bfloat16")
    return found or ["look for what is not finite in the data and in the network's own start"]
