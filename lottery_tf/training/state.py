"""All that a training holds between two steps, as {name: array}."""

import numpy as np
import tensorflow as tf

from lottery_tf import masking

DROPOUT = 2  # a stream of the noise; 1 draws the words of the augmentation, 3 is of workers


def start(engine, weights, masks, noise, first):
    """Sets an engine's network to weights under masks, with a fresh optimizer and dropout."""
    masking.set_weights(engine.network, weights, masks)
    engine.trainer.reset_optimizer()
    engine.trainer.set_totals(0)
    _set_dropout(
        engine,
        [
            noise.generator(first, DROPOUT, index).integers(0, 2**32, variable.shape, np.uint32)
            for index, variable in enumerate(engine.dropout_states)
        ],
    )


def capture(engine):
    """The state of an engine's training."""
    state = {f"weights/{path}": w for path, w in masking.get_weights(engine.network).items()}
    for index, variable in enumerate(engine.trainer.optimizer.variables):
        state[f"optimizer/{index:04d}"] = variable.numpy()
    for index, variable in enumerate(engine.dropout_states):
        state[f"dropout/{index}"] = variable.numpy()
    return state | {"totals": engine.trainer.totals.numpy()}


def restore(engine, state, masks):
    """Sets an engine back to a captured state; the number of replicas may have changed."""
    paths = masking.variables(engine.network)
    masking.set_weights(engine.network, {path: state[f"weights/{path}"] for path in paths}, masks)
    for index, variable in enumerate(engine.trainer.optimizer.variables):
        variable.assign(state[f"optimizer/{index:04d}"])
    engine.trainer.set_totals(state["totals"])
    count = len(engine.dropout_states)
    _set_dropout(engine, [state[f"dropout/{index}"] for index in range(count)])


def dropout_setter(variables, cluster):
    """A function that sets each variable to this replica's row of its (replicas, 2)."""

    @tf.function
    def assign(states):
        def mine():
            for variable, rows in zip(variables, states, strict=True):
                variable.assign(rows[cluster.replica])

        cluster.strategy.run(mine)

    return assign


def _set_dropout(engine, states):
    """Gives every replica a stream of its own; the state of the first one names them all."""
    replicas = np.arange(engine.cluster.replicas, dtype=np.uint32)
    offsets = np.stack([replicas, np.zeros_like(replicas)], 1)  # (replicas, 2)
    engine.assign_dropout([tf.constant(state + offsets) for state in states])
