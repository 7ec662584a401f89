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
    for index, variable in enumerate(engine.dropout_states):
        words = noise.generator(first, DROPOUT, index)
        _set_dropout(engine, variable, words.integers(0, 2**32, variable.shape, np.uint32))


def capture(engine):
    """The state of an engine's training."""
    state = {f"weights/{path}": w for path, w in masking.get_weights(engine.network).items()}
    for index, variable in enumerate(engine.trainer.optimizer.variables):
        state[f"optimizer/{index:04d}"] = variable.numpy()
    return state | {"totals": engine.trainer.totals.numpy()}


def restore(engine, state, masks):
    """Sets an engine back to a captured state; the number of replicas may have changed."""
    paths = masking.variables(engine.network)
    masking.set_weights(engine.network, {path: state[f"weights/{path}"] for path in paths}, masks)
    for index, variable in enumerate(engine.trainer.optimizer.variables):
        variable.assign(state[f"optimizer/{index:04d}"])
    engine.trainer.set_totals(state["totals"])
    for variable in engine.dropout_states:
        _set_dropout(engine, variable, state[f"weights/{variable.path}"])


def _set_dropout(engine, variable, first):
    """Gives every replica a stream of its own; that of the first one names them all."""
    offsets = np.zeros((engine.cluster.replicas, 2), np.uint32)
    offsets[:, 0] = np.arange(engine.cluster.replicas)
    states = tf.constant(first.astype(np.uint32) + offsets)

    @tf.function
    def assign():
        engine.cluster.strategy.run(lambda: variable.assign(states[engine.cluster.replica]))

    assign()
