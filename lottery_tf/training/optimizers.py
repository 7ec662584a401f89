"""The optimizers: one is a function of the Config, a line here, and a choice of --optimizer."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lottery_tf.config import Config
from lottery_tf.masking import keras_private


class Momentum(keras.optimizers.Optimizer):
    """SGD with momentum in PyTorch's form: v <- momentum * v + g; w <- w - rate * v.

    keras.optimizers.SGD folds the rate into the velocity, v <- momentum * v - rate * g, so that a
    change of the rate acts late.
    """

    def __init__(
        self, learning_rate: float, *, momentum: float, name: str = "momentum", **kwargs: Any
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = momentum

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        velocity = self.velocities[keras_private.slot_index(self, variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * velocity)

    def get_config(self) -> dict:
        return super().get_config() | {"momentum": self.momentum}


def adam(config: Config) -> keras.optimizers.Optimizer:
    """Return Adam as the papers use it."""
    return keras.optimizers.Adam(config.learning_rate, epsilon=1e-8)


def momentum(config: Config) -> keras.optimizers.Optimizer:
    """Return SGD with momentum."""
    return Momentum(config.learning_rate, momentum=config.momentum)


OPTIMIZERS: dict[str, Callable[[Config], keras.optimizers.Optimizer]] = {
    "adam": adam,
    "momentum": momentum,
}


def make(config: Config) -> keras.optimizers.Optimizer:
    """Return a new optimizer of config.optimizer; the engine sets its rate before every step."""
    return OPTIMIZERS[config.optimizer](config)
