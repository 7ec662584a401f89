"""Iterative magnitude pruning: the experiment, and its command.

    python -m lottery_tf.imp --flagfile=flags/digits.cfg

Run it again to resume; a run that is finished grows with a larger --rounds.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf import datasets, models
from lottery_tf.config import Config, command
from lottery_tf.config.constraints import check_new
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.pruning import Masks, Weights, streams
from lottery_tf.pruning.top_k import remaining
from lottery_tf.rundir import RunDir
from lottery_tf.runs import draws, other_runs, provenance
from lottery_tf.terminal import console, quiet, signals
from lottery_tf.terminal.streams import steady
from lottery_tf.training.round_0 import check_data, check_other_runs, take_round_0

if TYPE_CHECKING:  # these import TensorFlow
    from lottery_tf.analysis.path_evaluator import PathEvaluator
    from lottery_tf.training.devices import Cluster
    from lottery_tf.training.engine import Engine
    from lottery_tf.training.recorder import Silent
    from lottery_tf.training.tickets import Tickets

Initialization = Callable[[int], Weights]  # of a round
BARRIER_POINTS = 11


def experiment(config: Config, run: RunDir, engine: "Engine", initialization: Initialization,
               stop_signal: Callable[[], int] = lambda: 0) -> None:  # fmt: skip
    """Reset, train, prune, save: from the first round that is not finished to the last.

    It ends before when nothing is left to prune. Every worker calls this; the chief alone reads
    and writes the run, an open RunDir, and decides. Engine and initialization are what `prepare`
    gives; `stop_signal` is a function that gives the number of the signal that has come, or 0.

    Raises:
        InputError: the data or a finished round are damaged, or the loss is not finite.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    from lottery_tf.training import rewinding
    from lottery_tf.training.recorder import Recorder
    from lottery_tf.training.resumable import train_or_continue
    from lottery_tf.training.training import broadcast_training

    cluster, masks, exhausted = engine.cluster, engine.dense_masks(), False
    tickets, recorder, finished = begin(config, run, engine, initialization)
    evaluator = functools.cache(functools.partial(path_evaluator, config, engine))
    if cluster.is_chief:  # it alone knows whether the last pruning removed nothing
        masks, exhausted = tickets.before(finished)
    for round in range(finished, config.rounds):
        if cluster.sum(np.array([exhausted], np.int32)).any():
            recorder.report(ending(config, round - 1, masks))
            break
        if round and config.reset == "rewind":
            rewinding.make_sure(engine, run, engine.rewind_step, stop_signal)
        noise = streams.Noise(config.data_seed, round)
        resetting = functools.partial(tickets.reset, masks, noise)
        training = broadcast_training(cluster, resetting, noise)
        weights, history = train_or_continue(engine, training, run.path, recorder, stop_signal)
        squared_gradients = squares(config, engine, noise)
        if isinstance(recorder, Recorder):
            training = dataclasses.replace(training, masks=engine.masks())  # if it was gradual
            masks, threshold = tickets.prune(training, weights)
            exhausted = tickets.is_exhausted(training.masks, masks)
            measures = connection(config, run, evaluator, round, weights)
            decided = masks if config.prunes_after(round) else None
            recorder.save(training, weights, history, threshold, squared_gradients, measures,
                          next_masks=decided, exhausted=exhausted)  # fmt: skip


def begin(
    config: Config, run: RunDir, engine: "Engine", initialization: Initialization
) -> tuple["Tickets", "Silent", int]:
    """What resets and prunes, what shows and saves, and the number of finished rounds."""
    from lottery_tf.training.recorder import Recorder, Silent
    from lottery_tf.training.tickets import Tickets

    cluster, tickets = engine.cluster, Tickets(config, run, engine, initialization)
    old = cluster.broadcast(lambda: {"draws": np.array(draws.are_old(run.path))})
    engine.uniform = streams.old_uniform if old["draws"] else streams.uniform
    if cluster.is_chief and config.round_0_from and not run.finished_rounds():
        take_round_0(config, run, tickets)
    recorder = Recorder(run, config, engine) if cluster.is_chief else Silent()
    finished = cluster.broadcast(lambda: {"rounds": np.array(run.finished_rounds())})
    return tickets, recorder, int(finished["rounds"])


def squares(config: Config, engine: "Engine", noise: streams.Noise) -> Weights | None:
    """The mean squared gradients at the end of a round, where --repel_weighting asks for them."""
    return engine.squared_gradients(noise) if config.repel_weighting == "saliency" else None


def ending(config: Config, round: int, masks: Masks) -> str:
    """Why a run ends after a round that is not the last."""
    return (
        f"The run ends after round {round}, as --prune_fraction={config.prune_fraction} prunes "
        f"nothing more of {remaining(masks)} weights."
    )


def path_evaluator(config: Config, engine: "Engine") -> "PathEvaluator":
    """Return what measures the barriers of --early_stop=connected, on held-out examples.

    A run of an older version has none, and goes on with its training examples.
    """
    from lottery_tf.analysis.path_evaluator import PathEvaluator

    split = "validation" if config.validation_fraction else "train"
    return PathEvaluator(engine, points=BARRIER_POINTS, split=split, examples=10_000)


def connection(config: Config, run: RunDir, evaluator: Callable[[], "PathEvaluator"], round: int,
               weights: Weights) -> dict[str, float]:  # fmt: skip
    """{barrier: the error barrier to the round before} where --early_stop asks for it."""
    if not round or config.early_stop != "connected":
        return {}
    from lottery_tf.analysis import paths

    row = paths.summarize(evaluator().evaluate(run.final(round - 1), weights))
    # Networks that have collapsed answer alike: that connects nothing.
    return {"barrier": math.nan if row["collapsed"] else row["error_barrier"]}


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
        check(config, run)
    directory = datasets.find(config)
    data = fingerprint(directory)
    if one_host:
        provenance.check(run.path, data, directory.path)
        check_data(config, data, directory.path)
    quiet.import_tensorflow()
    from lottery_tf.training.devices import check_same_data, connect, own_process

    with own_process(config), (cluster := connect(config)).guard(), steady():
        if cluster.is_chief and not one_host:
            check(config, run)
            provenance.check(run.path, data, directory.path)
            check_data(config, data, directory.path)
        check_same_data(cluster, data, directory.path)
        engine, initialization = prepare(config, directory, cluster)
        work = functools.partial(lead, data) if cluster.is_chief else experiment
        return signals.resumable(functools.partial(work, config, run, engine, initialization))


def check(config: Config, run: RunDir) -> None:
    """Raises InputError if an experiment cannot run in its directory; writes nothing."""
    run.check(config)
    check_other_runs(config)
    # A run that is there goes on with the flags that it was made with.
    if not (run.path / "config.json").exists():
        check_new(config)


def lead(data: provenance.Fingerprint, config: Config, run: RunDir, engine: "Engine",
         initialization: Initialization, stop_signal: Callable[[], int]) -> None:  # fmt: skip
    """The experiment on the chief, which opens the run, logs and prints."""
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
        devices = f"{engine.cluster.replicas} replicas on {engine.cluster.workers} workers"
        devices += f", the chief with {environment.machine()}"
        about = environment.describe(environment.found())
        run.log(f"started at round {finished} of {config.rounds} with {devices}; {about}")
        for line in environment.record(run):
            run.log(line)
            console.say(line)
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


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, command.parse_config)
