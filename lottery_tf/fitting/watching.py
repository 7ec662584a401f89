"""Callbacks that watch the `fit` of a turn."""

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.method import Weights


class RewindPoint(keras.callbacks.Callback):
    """Keeps the weights of a model after some steps of `fit`, to rewind to.

    Args:
        step: batches, over all epochs.
    """

    def __init__(self, step: int):
        super().__init__()
        self.step, self.steps, self._before = step, 0, 0
        self.weights: Weights | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._before = self.steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # With steps_per_execution Keras calls this after several batches; `batch` is the last.
        earlier, self.steps = self.steps, self._before + batch + 1
        if self.steps == self.step:
            self.weights = masking.get_weights(self.model)
        elif earlier < self.step < self.steps:
            raise InputError(
                f"rewind_to: fit ran from step {earlier} to {self.steps} at once, past step "
                f"{self.step}. Compile with steps_per_execution=1, or name a step between two "
                "executions."
            )

    def kept(self) -> Weights:
        """The weights of the step.

        Raises:
            InputError: the fit of round 0 had not this callback, or not so many steps.
        """
        if self.weights is None:
            raise InputError(
                f"rewind_to: round 0 kept no weights of step {self.step}. Pass round.callbacks to "
                "its fit, and train for more steps than that."
            )
        return self.weights
