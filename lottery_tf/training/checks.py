"""What can only be said once the data and the devices are known, or the training runs."""

from typing import Any

import tensorflow as tf

from lottery_tf import masking
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset
from lottery_tf.errors import InputError
from lottery_tf.method import Array
from lottery_tf.method.schedules import parse_step
from lottery_tf.training.devices import Cluster
from lottery_tf.training.training import Training


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


def running_means(totals: Array, training: Training, steps_per_epoch: int) -> tuple[float, float]:
    """(loss, accuracy) of an epoch so far, from Trainer.totals.

    Raises:
        InputError: the loss was not finite; it names the first update at which.
    """
    bad = totals[:, 3][totals[:, 3] > 0]
    if bad.size:
        step = training.first + int(bad.min()) - 1
        epoch = step // steps_per_epoch
        raise not_finite(training.noise.round, epoch, step, "loss is not finite")
    loss, hits, examples, _ = totals.sum(0)
    return float(loss / examples), float(hits / examples)


def not_finite(round: int, epoch: int, step: int, what: str) -> InputError:
    """The InputError of a training that diverged; epoch and step count from 0."""
    return InputError(
        f"Round {round}, epoch {epoch + 1}, step {step}: the {what}. The finished rounds are kept. "
        "Lower --learning_rate, or raise --warmup_epochs, in another --run_dir."
    )
