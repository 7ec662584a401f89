"""The rewind point of a run: round 0 after k steps (Frankle et al. 2019, Algorithm 1)."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf.loop.observers import BarObserver, NullObserver
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion.optima import optima_of
from lottery_tf.runs import checkpoints, files, rewind_points
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.resumable import train_or_continue
from lottery_tf.training.training import Training, broadcast_training

if TYPE_CHECKING:
    from lottery_tf.training.engine import Engine


def make_sure(engine: "Engine", run: RunDir, step: int, stop_signal: Callable[[], int]) -> None:
    """Train to the rewind point that a run lacks, from the start and the noise of its round 0.

    It holds the bits that round 0 would have stored. Every worker calls this; the chief alone reads
    and writes the run, whose round 0 is finished.

    Args:
        engine: Engine of the run.
        run: RunDir.
        step: of the schedule.
        stop_signal: as in `train_or_continue`.

    Raises:
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    cluster, config, masks = engine.cluster, engine.config, engine.dense_masks()
    noise = Noise(config.data_seed, 0)

    def is_there() -> dict:
        return {"there": np.array(not step or rewind_points.exists(run.path, step))}

    if cluster.broadcast(is_there)["there"]:
        return
    training = broadcast_training(
        cluster,
        lambda: Training(run.initial(0), masks, noise, optima_of(config, run, 0, masks), last=step),
        noise,
    )
    assert training
    path = run.path / rewind_points.NAME
    observer = (
        BarObserver(f"round 0 up to step {step}, again") if cluster.is_chief else NullObserver()
    )
    with contextlib.ExitStack() as stack:
        if cluster.is_chief:
            path.mkdir(exist_ok=True)
            stack.enter_context(RunDir(path).lock())  # against another tool
            files.remove_leftovers(path / "checkpoints")
        weights, _ = train_or_continue(engine, training, path, observer, stop_signal)
        if cluster.is_chief:
            rewind_points.save(run.path, step, weights)
            checkpoints.forget(path)
