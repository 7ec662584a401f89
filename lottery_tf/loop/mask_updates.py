"""What the callbacks share that change masks inside one training: `MaskUpdates`."""

import bisect
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import checks
from lottery_tf.masking import optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer

DENSITY = "density"  # in the logs of `fit`


class MaskUpdates(keras.callbacks.Callback):
    """Changes the masks of one model after some updates by its optimizer; a base of callbacks.

    A subclass returns `steps` from `plan`, and changes the masks in `change`.

    Args:
        optimizer: whose updates count. Default: the one that the model was compiled with.

    Attributes:
        steps: updates after which the masks change, ascending.
        density: of the kernels that are pruned, as it is now.
    """

    _model: Any

    def __init__(self, optimizer: Optimizer | None = None):
        super().__init__()
        if optimizer is not None:
            optimizer_state.check([optimizer])
        self._own_optimizer = optimizer
        self.steps: Sequence[int] = ()
        self.density = 1.0
        self._begins, self._batch, self._at_most = True, -1, 0
        self._next: int | None = None

    def prepare(self, model: keras.Model) -> None:
        """Check what the subclass was given against the model that it is first used with."""

    def plan(self, step: int, last: int | None) -> Sequence[int]:
        """Return `steps`, as a fit begins that goes from one number of updates to another.

        `last` is None if Keras does not know how long the fit is.
        """
        return self.steps

    def begin(self, step: int) -> None:
        """Bring the masks to where they are after `step` updates, before a fit trains."""

    def change(self, due: int) -> None:
        """Change the masks, as is due after so many updates."""

    @property
    def name(self) -> str:
        """What errors call the callback."""
        return type(self).__name__

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer whose updates count."""
        model = self.model  # asked for it, Keras gives the variables back that `fit` holds on JAX
        found = self._own_optimizer or getattr(model, "optimizer", None)
        if not isinstance(found, Optimizer):
            raise InputError(
                f"{self.name} counts the updates of an optimizer, and {self.model.name} was not "
                "compiled with one: pass optimizer=, that of the masked layers."
            )
        return found

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers whose slots follow the masks: the model's, and the one that counts."""
        found = [*optimizer_state.find(self.model).values(), self.optimizer]
        return list({id(one): one for one in found}.values())

    def set_model(self, model: Any) -> None:
        if self._model is not None and model is not self._model:
            raise InputError(
                f"{self.name}: this callback is of {self._model.name}. Make another one for "
                f"{getattr(model, 'name', model)}."
            )
        if self._model is None:
            checks.check_model(model, self.name)
            self.prepare(model)
            checks.Coverage.of(model).warn_if_small(stacklevel=2)
        self._model = model
        masking.compile_with_masks(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        # Callbacks that restore a state do so now, so the first step is not known yet.
        self._begins = True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._batch = -1
        if self._begins:
            self._begin(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._begins:
            self._begin(0)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._begins:
            self._begin(0)
        # The number of updates lies on the device: it is read only when it may have come so far.
        self._at_most += max(1, batch - self._batch)
        self._batch = batch
        if self._next is not None and self._at_most >= self._next:
            step = self._at_most = self._updates()
            if step >= self._next:
                self.change(self.steps[bisect.bisect_right(self.steps, step) - 1])
                self._look_ahead(step)
        if logs is not None:
            logs[DENSITY] = self.density

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs[DENSITY] = self.density

    def _begin(self, epoch: int) -> None:
        self._begins = False
        for kernel in masking.kernels(self.model).values():
            if kernel.mask.lock:
                raise InputError(
                    f"{self.name}: {kernel.mask.lock.name} of lottery_tf.rounds keeps its masks "
                    "while it trains, and prunes after it. Leave one of the two out."
                )
        step = self._at_most = self._updates()
        last = self._last_step(step, epoch)
        self.steps = self.plan(step, last)
        if last is not None and self.steps and self.steps[-1] > last:
            raise InputError(
                f"{self.name}: expected its last step within this fit, which ends with update "
                f"{last}. Received: {self.steps[-1]}. Train for longer, or end earlier."
            )
        self.begin(step)
        self._look_ahead(step)

    def _updates(self) -> int:
        count = self.optimizer.iterations  # a mirrored variable is no number
        is_variable = isinstance(count, keras.Variable)
        return int(count.numpy() if is_variable else keras.ops.convert_to_numpy(count))

    def _look_ahead(self, step: int) -> None:
        after = bisect.bisect_right(self.steps, step)
        self._next = self.steps[after] if after < len(self.steps) else None
        self.density = pruning.density(checks.prunable(self.model))

    def _last_step(self, step: int, epoch: int) -> int | None:
        """Return the number of updates after this fit; None if Keras does not know its length."""
        params = self.params or {}
        steps, epochs = params.get("steps"), params.get("epochs")
        if not steps or not epochs:
            return None
        each = [
            getattr(one, "gradient_accumulation_steps", None) or 1
            for one in optimizer_state.with_inner(self.optimizer)
        ]
        return step + (epochs - epoch) * steps // max(each)

    def _warn(self, words: str) -> None:
        warnings.warn(f"{self.name}: {words}", stacklevel=3)
