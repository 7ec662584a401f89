"""Iterative magnitude pruning: the experiment, and its command.

    python -m lottery_tf.imp --flagfile=flags/digits.cfg

Run it again to resume; a run that is finished grows with a larger --rounds.
"""

import functools
import os
import platform

import numpy as np

from lottery_tf import datasets, models
from lottery_tf.config import command
from lottery_tf.method import pruning
from lottery_tf.repulsion.optima import check_runs
from lottery_tf.store.rundir import RunDir
from lottery_tf.terminal import console, quiet
from lottery_tf.training import one_round


def experiment(config, run, first_round, engine, initialization, received=lambda: 0):
    """Train, save, prune, reset, from `first_round` to the last of config.rounds.

    Args:
        config: Config.
        run: an open RunDir that holds the rounds before `first_round`; only the chief uses it.
        first_round: the round to begin or to continue.
        engine, initialization: as `prepare` gives them.
        received: a function that gives the number of the signal that has come, or 0.

    Raises:
        InputError: the data or a finished round are damaged, or the loss is not finite.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    cluster = engine.cluster
    recorder = make_recorder(run, config, engine) if cluster.is_chief else None
    prune = functools.partial(
        pruning.prune,
        fraction=config.prune_fraction,
        criterion=config.criterion,
        scope=config.scope,
    )
    masks = engine.dense_masks()  # round 0 trains dense
    if first_round:
        last = first_round - 1
        masks = cluster.from_chief(lambda: prune(run.final(last), run.masks(last))[0])
    for round in range(first_round, config.rounds):
        start = one_round.begin(config, run, round, masks, engine, initialization, recorder)
        final, history = one_round.train(config, round, start, masks, engine, recorder, received)
        saliency = engine.saliency(round) if config.repel_weighting == "saliency" else None
        pruned = {}
        if recorder:
            pruned, threshold = prune(final, masks)
            recorder.finish_round(masks, start, final, history, threshold, saliency)
        masks = cluster.from_chief(lambda pruned=pruned: pruned)


def make_recorder(run, config, engine):
    """What the chief shows and saves with."""
    from lottery_tf.training.recorder import Recorder

    return Recorder(run, config, engine)


def prepare(config, directory, cluster):
    """The engine of an experiment, and its initialization: a function of the round -> weights."""
    from lottery_tf import masking
    from lottery_tf.training.engine import Engine

    @functools.cache
    def first():
        return fresh(0)

    def fresh(round):
        seed = int(np.random.SeedSequence([config.init_seed, round]).generate_state(1)[0])
        shape, classes = directory.input_shape, directory.classes
        return masking.get_weights(models.build(config, shape, classes, seed=seed))

    engine = Engine(config, directory, cluster)
    return engine, lambda round: fresh(round) if round else first()


def main(config):
    """Checks everything, then runs or resumes the experiment; returns the exit status."""
    run = RunDir(config.run_dir)
    # Of several hosts only the chief looks at the run, and TensorFlow knows which one that is.
    one_host = not {"TF_CONFIG", "SLURM_STEP_NUM_TASKS"} & os.environ.keys()
    if one_host:
        run.check(config)
        check_runs(config)
    directory = datasets.find(config)
    quiet.import_tensorflow()
    from lottery_tf.training.devices import connect

    cluster = connect(config)
    with cluster.guard():
        if cluster.is_chief and not one_host:
            run.check(config)
            check_runs(config)
        engine, initialization = prepare(config, directory, cluster)
        if cluster.is_chief:
            return lead(config, run, engine, initialization)
        with console.stop_signals() as received:
            try:
                experiment(config, run, first_round(cluster), engine, initialization, received)
            except console.Interrupted as interrupted:
                return interrupted.status
    return 0


def lead(config, run, engine, initialization):
    """What the chief does of `main`, and the only process of one."""
    with run.open(config) as finished, console.stop_signals() as received:
        devices = f"{engine.cluster.replicas} replicas on {engine.cluster.workers} workers"
        run.log(f"started at round {finished} of {config.rounds} with {devices}; {versions()}")
        print(f"{run.path}: {finished} of {config.rounds} rounds are finished.")
        console.print_header()
        for metrics in run.metrics():
            console.print_row(metrics)
        first_round(engine.cluster, finished)
        try:
            experiment(config, run, finished, engine, initialization, received)
        except console.Interrupted as interrupted:
            run.log(f"stopped by {interrupted}")
            interrupted.advise()
            return interrupted.status
        except Exception as error:
            run.log(f"stopped: {error}")
            raise
        run.log("finished")
    return 0


def first_round(cluster, finished=0):
    """The round to begin with: the number of finished rounds, which the chief knows."""
    return int(cluster.sum(np.array([finished], np.int32))[0])


def versions():
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
