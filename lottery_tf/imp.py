"""Find a lottery ticket by iterative magnitude pruning: train, prune, reset, in rounds.

    python -m lottery_tf.imp --flagfile=flags/digits.cfg
    python -m lottery_tf.imp --flagfile=flags/lenet.cfg --reset=reinit --seed=1

Run the command again to resume. A larger --rounds extends a finished run.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf import datasets
from lottery_tf.config import Config, command
from lottery_tf.config.constraints import check_new
from lottery_tf.config.environment import uses_onednn
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.loop.round_0 import check_data, check_other_runs
from lottery_tf.plots import Row
from lottery_tf.plots.tables import count
from lottery_tf.pruning import Weights, streams
from lottery_tf.rundir import RunDir
from lottery_tf.runs import draws, other_runs, provenance
from lottery_tf.terminal import console, quiet, signals
from lottery_tf.terminal.streams import steady

if TYPE_CHECKING:  # it imports TensorFlow
    from lottery_tf.training.engine import Engine

BARRIER_POINTS = 11


def experiment(
    config: Config, run: RunDir, engine: "Engine", stop_signal: Callable[[], int] = lambda: 0
) -> None:
    """Reset, train, prune, save: from the first round that is not finished to the last.

    It ends earlier when nothing is left to prune. Every worker calls this. The chief alone goes
    through `PruningRounds`, reads and writes the run, and tells the others what to train.

    Args:
        config: Config.
        run: RunDir, open.
        engine: Engine.
        stop_signal: a function that returns the number of the signal that has come, or 0.

    Raises:
        InputError: the data or a finished round are damaged, or the loss is not finite.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    from lottery_tf.loop.observers import NullObserver
    from lottery_tf.training import rewinding
    from lottery_tf.training.chief import Chief, check_pruning
    from lottery_tf.training.resumable import train_or_continue
    from lottery_tf.training.training import broadcast_training

    check_pruning(config, engine)
    cluster, chief = engine.cluster, None
    if cluster.is_chief:
        chief = Chief(config, run, engine, barrier_measure(config, run, engine))
    observer = chief.observer if chief else NullObserver()
    rewind_point = {engine.rewind_step: chief.save_rewind_point if chief else None}
    told = cluster.broadcast(
        lambda: {"round": np.array(run.finished_rounds()), "old": np.array(draws.are_old(run.path))}
    )
    engine.uniform = streams.old_uniform if told["old"] else streams.uniform
    for number in range(int(told["round"]), config.rounds):
        ends = cluster.sum(np.array([chief is not None and chief.pruning.exhausted], np.int32))
        if number and config.reset == "rewind" and not ends.any():
            rewinding.make_sure(engine, run, engine.rewind_step, stop_signal)
        noise = streams.Noise(config.data_seed, number)
        training = broadcast_training(cluster, chief.next_training if chief else None, noise)
        if training is None:  # nothing is left to prune
            break
        weights, history = train_or_continue(
            engine,
            training,
            run.path,
            observer,
            stop_signal,
            at={} if number else rewind_point,
        )
        saliency = config.repel_weighting == "saliency"
        squared_gradients = engine.squared_gradients(noise) if saliency else None
        if chief:
            chief.finish(training, weights, history, squared_gradients)


def barrier_measure(config: Config, run: RunDir, engine: "Engine") -> Callable[[int, Weights], Row]:
    """Return a function of (round, its weights): the barrier that --early_stop=connected asks for.

    It is the error barrier to the round before, on held-out examples. A run of an older version
    holds out none, and continues with its training examples.
    """
    if config.early_stop != "connected":
        return lambda round, weights: {}
    from lottery_tf.analysis import paths
    from lottery_tf.analysis.path_evaluator import PathEvaluator

    split = "validation" if config.validation_fraction else "train"
    evaluator = functools.cache(
        lambda: PathEvaluator(engine, points=BARRIER_POINTS, split=split, examples=10_000)
    )

    def measure(round: int, weights: Weights) -> Row:
        if not round:
            return {}
        row = paths.summarize(evaluator().evaluate(run.final(round - 1), weights))
        # Collapsed networks predict a constant, so a low barrier is meaningless.
        return {"barrier": math.nan if row["collapsed"] else row["error_barrier"]}

    return measure


def main(config: Config) -> int:
    """Check everything, then run or resume the experiment; return the exit status."""
    run = RunDir(config.run_dir)
    # Of several hosts only the chief looks at the run, and TensorFlow knows which one that is.
    one_host = not {"TF_CONFIG", "SLURM_STEP_NUM_TASKS"} & os.environ.keys()
    if one_host:
        check(config, run)
    directory = datasets.find(config)
    data = fingerprint(directory)
    if one_host:
        provenance.check(run.path, data, directory.path)
        check_data(config, data, directory.path)
    quiet.import_tensorflow(uses_onednn(run.path))
    from lottery_tf.training import environment
    from lottery_tf.training.devices import check_same_data, connect, own_process
    from lottery_tf.training.engine import Engine

    with own_process(config), (cluster := connect(config)).guard(), steady():
        if cluster.is_chief and not one_host:
            check(config, run)
            provenance.check(run.path, data, directory.path)
            check_data(config, data, directory.path)
        check_same_data(cluster, data, directory.path)
        environment.check_workers(cluster)
        engine = Engine(config, directory, cluster)
        work = functools.partial(lead, data) if cluster.is_chief else experiment
        return signals.resumable(functools.partial(work, config, run, engine))


def check(config: Config, run: RunDir) -> None:
    """Raise InputError if an experiment cannot run in its directory; write nothing."""
    run.check(config)
    check_other_runs(config)
    # Existing runs resume with their original flags.
    if not (run.path / "config.json").exists():
        check_new(config)


def lead(
    data: provenance.Fingerprint,
    config: Config,
    run: RunDir,
    engine: "Engine",
    stop_signal: Callable[[], int],
) -> None:
    """Run the experiment on the chief, which opens the run, logs and prints."""
    from lottery_tf.training import environment

    with run.open(config) as finished:
        if provenance.record(run.path, data) and finished:
            run.log(
                f"{provenance.DATA} is new: the run had none, so its {finished} finished rounds "
                f"are taken to be of the data as they are now: {provenance.in_words(data['train'])}"
            )
        repelled = config.repel_runs if config.repel else ()
        if other_runs.record(run, repelled) and finished:
            run.log(f"{other_runs.NAME} is new: those runs are taken to have grown no further")
        cluster = engine.cluster
        devices = f"{count(cluster.replicas, 'replica')} on {count(cluster.workers, 'worker')}"
        devices += f", the chief with {environment.machine()}"
        about = environment.describe(environment.found())
        run.log(f"started at round {finished} of {config.rounds} with {devices}; {about}")
        for line in environment.record(run):
            run.log(line)
            console.say(line)
        print(f"{run.path}: {finished} of {config.rounds} rounds are finished.")
        try:
            experiment(config, run, engine, stop_signal)
        except signals.Interrupted as interrupted:
            run.log(f"stopped by {interrupted}")
            raise
        except Exception as error:
            run.log(f"stopped: {error}")
            raise
        run.log("finished")


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, command.parse_config)
