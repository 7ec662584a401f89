"""The learning rate of every step. NumPy only."""

import numpy as np


def learning_rates(config, steps_per_epoch):
    """The learning rate of each update of a round, counted from the schedule's step 0.

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


def constant(config, steps, steps_per_epoch):
    """1 at every step."""
    return np.ones(len(steps))


def step(config, steps, steps_per_epoch):
    """Divided by lr_drop_factor at the first step of each epoch in lr_drops."""
    drops = np.asarray(config.lr_drops) * steps_per_epoch
    return config.lr_drop_factor ** -np.searchsorted(np.sort(drops), steps, side="right").astype(
        float
    )


def cosine(config, steps, steps_per_epoch):
    """From 1 to 0 along half a cosine over all steps."""
    return (1 + np.cos(np.pi * steps / len(steps))) / 2


# A schedule is called with the config, the steps (n,) and the steps per epoch; it gives (n,).
SCHEDULES = {"constant": constant, "step": step, "cosine": cosine}
