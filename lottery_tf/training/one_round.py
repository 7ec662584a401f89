"""How a round begins and is trained: the same on every worker, as the chief says."""

import dataclasses
import functools
import signal

import numpy as np

from lottery_tf.method.resets import RESETS
from lottery_tf.method.streams import Noise
from lottery_tf.repulsion.optima import Optima, collect
from lottery_tf.store import checkpoints
from lottery_tf.store.moment import Moment
from lottery_tf.terminal import console


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a round starts.

    Args:
        initial: {variable path: array}.
        optima: optima.Optima to be repelled from; None without.
        checkpoint: (Moment, state) in the middle of the round; None at its beginning.
    """

    initial: dict
    optima: Optima | None
    checkpoint: tuple[Moment, dict] | None


def begin(config, run, round, masks, engine, initialization, recorder):
    """The Start of a round.

    Args:
        run: the open RunDir; only the chief uses it, as the recorder.
        masks: {kernel path: bool array} of this round.
        engine, initialization: as imp.prepare gives them.
    """
    from_chief = engine.cluster.from_chief

    def packed_optima():
        found = collect(config, run, round, masks)
        return found.pack() if found else {}

    def packed_checkpoint():
        return checkpoints.pack(checkpoints.newest(run.path, round, recorder.report))

    reset = functools.partial(RESETS[config.reset], initialization, masks, round)
    return Start(
        from_chief(reset),
        Optima.unpack(from_chief(packed_optima)),
        checkpoints.unpack(from_chief(packed_checkpoint)),
    )


def train(config, round, start, masks, engine, recorder, received):
    """Trains a round, recorded by the chief; (weights, history) as Engine.train.

    Raises:
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    if recorder:
        recorder.start_round(round, start.checkpoint)

    def on_piece(moment):
        due = bool(recorder) and recorder.is_checkpoint_due(moment)
        stop = received()
        if recorder:
            recorder.show(moment)
        # All workers must save and stop at one step.
        votes = engine.cluster.sum(
            np.array([due, stop == signal.SIGTERM, stop == signal.SIGINT], np.int32)
        )
        if votes.any():
            state = engine.state()
            if recorder:
                recorder.save_checkpoint(moment, state)
        if votes[1:].any():
            raise console.Interrupted(signal.SIGTERM if votes[1] else signal.SIGINT)

    try:
        return engine.train(
            start.initial,
            masks,
            Noise(config.data_seed, round),
            optima=start.optima,
            checkpoint=start.checkpoint,
            on_piece=on_piece,
            on_epoch=recorder.summaries.add_epoch if recorder else None,
        )
    finally:
        if recorder:
            recorder.close_round()
