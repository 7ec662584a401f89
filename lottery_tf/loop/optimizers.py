"""Optimizers that begin again in each round."""

import contextlib
import warnings
from collections.abc import Sequence

import keras

from lottery_tf.masking import optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer


class FreshOptimizers:
    """Sets optimizers back to how they began: when `rounds` began, or before they first trained.

    These are all that the model and its layers hold, and those inside of them.

    Args:
        model: a built model, compiled or not.
        others: further optimizers, which the model does not hold.

    Raises:
        InputError: one has trained already, and cannot begin again.
    """

    def __init__(self, model: keras.Model, others: Sequence[Optimizer] = ()):
        self.model, self.others = model, others
        self._beginnings: dict[int, optimizer_state.Beginning] = {}  # {id of the optimizer: …}
        self._is_known = False
        self._late: set[int] = set()  # ids of those that had trained when they were first seen
        self.remember()

    def remember(self) -> None:
        """Remember how the optimizers begin that are new, and forget those that are gone.

        One that has trained already begins again at step 0, with the learning rate that it has now.
        """
        with self._scope():
            own = getattr(self.model, "optimizer", None)
            if own is not None and not own.built:
                own.build(self.model.trainable_variables)
            held = [
                optimizer
                for outer in self._held().values()
                for optimizer in optimizer_state.with_inner(outer)
            ]
            if self._is_known:  # those of the beginning are as their user left them
                self._late |= {
                    id(one) for one in held if id(one) not in self._beginnings and _has_trained(one)
                }
            self._beginnings = {
                id(one): self._beginnings.get(id(one)) or optimizer_state.Beginning(one)
                for one in held
            }
            self._late &= self._beginnings.keys()
            self._is_known = True

    def renew(self) -> list[str]:
        """Set every variable of the optimizers to its first value; return the optimizers' names."""
        for one in self._held().values():
            if id(one) in self._late and _has_trained(one):
                self._late.discard(id(one))
                warnings.warn(
                    f"{one.name} was compiled inside a round and had trained when `rounds` first "
                    "saw it: each round begins with the learning rate that it had then. Pass "
                    "round.callbacks to fit, which remembers how it began, or compile the model "
                    "before the rounds.",
                    stacklevel=3,
                )
        self.remember()
        with self._scope():
            for beginning in self._beginnings.values():
                beginning.again()
        return [f"{name} ({type(one).__name__})" for name, one in self._held().items()]

    def _scope(self) -> contextlib.AbstractContextManager[None]:
        # Variables that are made outside of the model's strategy do not go with it.
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy.scope() if strategy else contextlib.nullcontext()

    def _held(self) -> dict[str, Optimizer]:
        """Return {name: optimizer}, without those inside of others."""
        held = optimizer_state.find(self.model)
        known = {id(one) for one in held.values()}
        given = {f"optimizers[{i}]": one for i, one in enumerate(self.others)}
        return held | {name: one for name, one in given.items() if id(one) not in known}


def _has_trained(optimizer: Optimizer) -> bool:
    return int(optimizer.iterations) > 0
