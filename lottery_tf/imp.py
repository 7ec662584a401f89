"""Iterative magnitude pruning: the experiment, and its command.

    python -m lottery_tf.imp --flagfile=flags/digits.cfg

Run it again to resume; a run that is finished grows with a larger --rounds.
"""

import functools
import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf import datasets, models
from lottery_tf.config import Config, command
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.method import Masks, Weights, pruning, streams
from lottery_tf.method.resets import RESETS, Sources
from lottery_tf.repulsion.optima import check_runs, optima_of
from lottery_tf.rundir import RunDir
from lottery_tf.store import provenance
from lottery_tf.terminal import console, quiet, signals

if TYPE_CHECKING:  # these import TensorFlow
    from lottery_tf.training.devices import Cluster
    from lottery_tf.training.engine import Engine
    from lottery_tf.training.training import Training

Initialization = Callable[[int], Weights]  # of a round


def experiment(config: Config, run: RunDir, engine: "Engine", initialization: Initialization,
               stop_signal: Callable[[], int] = lambda: 0) -> None:  # fmt: skip
    """Reset, train, prune, save: from the first round that is not finished to the last.

    Every worker calls this; the chief alone reads and writes the run, and decides.

    Args:
        config: Config.
        run: an open RunDir.
        engine, initialization: as `prepare` gives them.
        stop_signal: a function that gives the number of the signal that has come, or 0.

    Raises:
        InputError: the data or a finished round are damaged, or the loss is not finite.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    from lottery_tf.training.recorder import Recorder, Silent
    from lottery_tf.training.resumable import train_or_continue
    from lottery_tf.training.training import broadcast_training

    cluster, masks = engine.cluster, engine.dense_masks()
    recorder = Recorder(run, config, engine) if cluster.is_chief else Silent()
    finished = int(cluster.broadcast(lambda: {"rounds": np.array(run.finished_rounds())})["rounds"])
    if finished and cluster.is_chief:
        last = finished - 1
        masks, _ = prune(config, run.masks(last), run.final(last), lambda: run.initial(last))
    for round in range(finished, config.rounds):
        noise = streams.Noise(config.data_seed, round)
        resetting = functools.partial(reset, config, run, initialization, masks, noise)
        training = broadcast_training(cluster, resetting, noise)
        weights, history = train_or_continue(engine, training, run.path, recorder, stop_signal)
        weighted = config.repel_weighting == "saliency"
        squared_gradients = engine.squared_gradients(noise) if weighted else None
        if isinstance(recorder, Recorder):
            masks, threshold = prune(config, training.masks, weights, training.weights.copy)
            recorder.save(training, weights, history, threshold, squared_gradients)


def reset(config: Config, run: RunDir, initialization: Initialization, masks: Masks,
          noise: streams.Noise) -> "Training":  # fmt: skip
    """The Training of a round: its start under its masks, and the optima it is repelled from.

    Round 0 starts from W_0, the initialization of round 0, whatever the reset.
    """
    from lottery_tf.training.training import Training

    round = noise.round
    sources = Sources(initialization, trained=lambda: run.final(round - 1))
    start, first = RESETS[config.reset if round else "init"](sources, masks, round)
    return Training(start, masks, noise, optima_of(config, run, round, masks), first)


def prune(
    config: Config, masks: Masks, trained: Weights, initial: Callable[[], Weights]
) -> tuple[Masks, pruning.Threshold]:
    """(masks of the next round, Threshold) from a round's masks, end, and start: a function."""
    return pruning.prune(
        trained,
        masks,
        config.prune_fraction,
        criterion=config.criterion,
        scope=config.scope,
        initial=initial,
    )


def prepare(
    config: Config, directory: datasets.PreparedDataset, cluster: "Cluster"
) -> tuple["Engine", Initialization]:
    """The engine of an experiment, and its initialization: a function of the round -> weights."""
    from lottery_tf import masking
    from lottery_tf.training.engine import Engine

    def fresh(round):
        seed = streams.initialization_seed(config.init_seed, round)
        network = models.build(config, directory.input_shape, directory.classes, seed=seed)
        return masking.get_weights(network)

    engine = Engine(config, directory, cluster)
    first = functools.cache(lambda: fresh(0))
    return engine, lambda round: fresh(round) if round else first()


def main(config: Config) -> int:
    """Checks everything, then runs or resumes the experiment; returns the exit status."""
    run = RunDir(config.run_dir)
    # Of several hosts only the chief looks at the run, and TensorFlow knows which one that is.
    one_host = not {"TF_CONFIG", "SLURM_STEP_NUM_TASKS"} & os.environ.keys()
    if one_host:
        run.check(config)
        check_runs(config)
    directory = datasets.find(config)
    data = fingerprint(directory)
    if one_host:
        provenance.check(run.path, data, directory.path)
    quiet.import_tensorflow()
    from lottery_tf.training.checks import check_same_data
    from lottery_tf.training.devices import connect

    cluster = connect(config)
    with cluster.guard():
        if cluster.is_chief and not one_host:
            run.check(config)
            check_runs(config)
            provenance.check(run.path, data, directory.path)
        check_same_data(cluster, data, directory.path)
        engine, initialization = prepare(config, directory, cluster)
        work = functools.partial(lead, data) if cluster.is_chief else experiment
        return signals.resumable(functools.partial(work, config, run, engine, initialization))


def lead(data: provenance.Fingerprint, config: Config, run: RunDir, engine: "Engine",
         initialization: Initialization, stop_signal: Callable[[], int]) -> None:  # fmt: skip
    """The experiment on the chief, which opens the run, logs and prints."""
    with run.open(config) as finished:
        if provenance.record(run.path, data) and finished:
            run.log(
                f"{provenance.DATA} is new: the run had none, so its {finished} finished rounds "
                f"are taken to be of the data as they are now: {provenance.in_words(data['train'])}"
            )
        devices = f"{engine.cluster.replicas} replicas on {engine.cluster.workers} workers"
        run.log(f"started at round {finished} of {config.rounds} with {devices}; {versions()}")
        print(f"{run.path}: {finished} of {config.rounds} rounds are finished.")
        console.print_header()
        for metrics in run.metrics():
            console.print_row(metrics)
        try:
            experiment(config, run, engine, initialization, stop_signal)
        except signals.Interrupted as interrupted:
            run.log(f"stopped by {interrupted}")
            raise
        except Exception as error:
            run.log(f"stopped: {error}")
            raise
        run.log("finished")


def versions() -> str:
    """What a result may depend on, in one line."""
    import keras
    import tensorflow as tf

    return (
        f"Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}, NumPy {np.__version__}"
    )


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, command.parse_config)
