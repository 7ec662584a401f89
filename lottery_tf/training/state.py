"""All that a training holds between two steps, as {name: array}."""

import numpy as np
import tensorflow as tf

from lottery_tf import masking, pruning
from lottery_tf.masking import optimizer_state
from lottery_tf.pruning import Masks, Weights
from lottery_tf.training.devices import Cluster
from lottery_tf.training.trainer import Trainer
from lottery_tf.training.training import Training

MASK = "masks/"


class State:
    """Sets a Trainer to a start or a checkpoint, and reads what it holds.

    Args:
        trainer: Trainer.
        cluster: devices.Cluster.
    """

    def __init__(self, trainer: Trainer, cluster: Cluster):
        self.trainer, self.network, self.cluster = trainer, trainer.network, cluster
        self.masks_change = False
        self.dropout = [v for v in self.network.variables if "seed_generator" in v.path]
        self._assign_dropout = tf.function(self._assign)

    def start(self, training: Training) -> None:
        """Begins a Training: its weights and masks, a fresh optimizer, its noise's dropout."""
        self.masks_change = training.density is not None
        masking.set_weights(self.network, training.weights, training.masks)
        self.trainer.reset_optimizer()
        self.trainer.set_totals(0)
        generators = (training.noise.dropout(training.first, i) for i in range(len(self.dropout)))
        self._set_dropout(
            [
                generator.integers(0, 2**32, variable.shape, np.uint32)
                for generator, variable in zip(generators, self.dropout, strict=True)
            ]
        )

    def capture(self) -> Weights:
        """{name: array}; every worker calls it."""
        state = {f"weights/{path}": w for path, w in masking.get_weights(self.network).items()}
        for index, variable in enumerate(self.trainer.optimizer.variables):
            state[f"optimizer/{index:04d}"] = variable.numpy()
        for index, variable in enumerate(self.dropout):
            state[f"dropout/{index}"] = variable.numpy()
        if self.masks_change:
            masks = masking.get_masks(self.network)
            state |= {f"{MASK}{path}": mask for path, mask in masks.items()}
        return state | {"totals": self.trainer.totals.numpy()}

    def restore(self, state: Weights, masks: Masks) -> None:
        """Goes back to what `capture` gave; the number of replicas may have changed."""
        paths = masking.variables(self.network)
        weights = {path: state[f"weights/{path}"] for path in paths}
        own = {name.removeprefix(MASK): a for name, a in state.items() if name.startswith(MASK)}
        self.masks_change = bool(own)
        masking.set_weights(self.network, weights, own or masks)
        for index, variable in enumerate(self.trainer.optimizer.variables):
            variable.assign(state[f"optimizer/{index:04d}"])
        self.trainer.set_totals(state["totals"])
        self._set_dropout([state[f"dropout/{index}"] for index in range(len(self.dropout))])

    def prune(self, masks: Masks) -> None:
        """Prunes in the middle of a training; the optimizer forgets what it knew of the pruned."""
        weights = pruning.apply_masks(masking.get_weights(self.network), masks)
        masking.set_weights(self.network, weights, masks)
        variables = self.network.trainable_variables
        optimizer_state.clear_pruned(self.trainer.optimizer, variables, masks)

    def _set_dropout(self, states):
        """Gives every replica a stream of its own; the state of the first one names them all."""
        replicas = np.arange(self.cluster.replicas, dtype=np.uint32)
        offsets = np.stack([replicas, np.zeros_like(replicas)], 1)  # (replicas, 2)
        self._assign_dropout([tf.constant(state + offsets) for state in states])

    def _assign(self, states):
        def mine():
            for variable, rows in zip(self.dropout, states, strict=True):
                variable.assign(rows[self.cluster.replica])

        self.cluster.strategy.run(mine)
