"""The learning rate of every step. NumPy only."""

from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array


def learning_rates(config: Any, steps_per_epoch: int) -> Array:
    """Return the learning rate of each update of a round, counted from the schedule's step 0.

    Args:
        config: Config; its learning_rate, schedule, lr_drops (epochs), lr_drop_factor,
            warmup_epochs and epochs.
        steps_per_epoch: updates per epoch.

    Returns:
        float32 (epochs * steps_per_epoch,).
    """
    steps = np.arange(config.epochs * steps_per_epoch)
    rates = config.learning_rate * SCHEDULES[config.schedule](config, steps, steps_per_epoch)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if warmup_steps:
        rates *= np.minimum(steps / warmup_steps, 1)  # linear, from 0
    return rates.astype(np.float32)


def constant(config: Any, steps: Array, steps_per_epoch: int) -> Array:
    """1 at every step."""
    return np.ones(len(steps))


def step(config: Any, steps: Array, steps_per_epoch: int) -> Array:
    """Divided by lr_drop_factor at the first step of each epoch in lr_drops."""
    drops = np.asarray(config.lr_drops) * steps_per_epoch
    return config.lr_drop_factor ** -np.searchsorted(np.sort(drops), steps, side="right").astype(
        float
    )


def cosine(config: Any, steps: Array, steps_per_epoch: int) -> Array:
    """From 1 to 0 along half a cosine over all steps."""
    return (1 + np.cos(np.pi * steps / len(steps))) / 2


# A schedule is called with the config, the steps (n,) and the steps per epoch; it gives (n,).
SCHEDULES = {"constant": constant, "step": step, "cosine": cosine}


def parse_step(name: str, text: str, steps_per_epoch: int) -> int:
    """Return the step that "500", or "4ep" for an epoch, means.

    Raises:
        InputError: the text is neither; `name` says what it is of.
    """
    number = text.removesuffix("ep")
    if not (number.isascii() and number.isdigit()):
        raise InputError(f"{name}: expected a step, as 500, or an epoch, as 4ep. Received: {text}")
    return int(number) * (steps_per_epoch if text.endswith("ep") else 1)


def check_drops(drops: tuple[int, ...], epochs: int) -> None:
    """Raise InputError unless --schedule=step has drops, all within the epochs."""
    late = [epoch for epoch in drops if epoch >= epochs]
    if late or not drops:
        scaled = _scaled_drops(drops, epochs)
        suggestion = f"give earlier drops (such as --lr_drops={scaled}), " if scaled else ""
        raise InputError(
            f"--schedule=step with --epochs={epochs} expects --lr_drops below {epochs}. Received: "
            f"{','.join(map(str, drops)) or 'none'}. Train longer, {suggestion}or use "
            "--schedule=cosine."
        )


def _scaled_drops(drops: tuple[int, ...], epochs: int) -> str:
    """Return the drops at the same parts of the training, or none if it is too short."""
    last = max(drops, default=0) * 6 / 5  # as 56, 71 of 85: the last drop at 5/6
    parts = [epoch / last for epoch in drops] or [2 / 3, 5 / 6]
    scaled = sorted({int(part * epochs) for part in parts})
    return ",".join(map(str, scaled)) if scaled[0] >= 1 else ""
