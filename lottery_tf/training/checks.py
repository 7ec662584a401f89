"""What can only be said once the data and the devices are known, or the training runs."""

from typing import Any

import tensorflow as tf

from lottery_tf import masking
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset
from lottery_tf.errors import InputError
from lottery_tf.method.schedules import parse_step
from lottery_tf.training.devices import Cluster

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


def not_finite(round: int, epoch: int, step: int, what: str, remedies: list[str]) -> InputError:
    """The InputError of a training that diverged; epoch and step count from 0."""
    return InputError(
        f"Round {round}, epoch {epoch + 1}, step {step}: the {what}. The finished rounds are kept. "
        f"In another --run_dir, {', or '.join(remedies)}."
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
