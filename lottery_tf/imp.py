"""Iterative magnitude pruning: the experiment, and its command.

    python -m lottery_tf.imp --flagfile=flags/digits.cfg

Run it again to resume; a run that is finished grows with a larger --rounds.
"""

import functools
import platform
import shlex
import sys
import time

import numpy as np

from lottery_tf import command, console, datasets, models, pruning, quiet
from lottery_tf.datasets.order import Noise
from lottery_tf.resets import RESETS
from lottery_tf.rundir import RunDir


def experiment(config, run, first_round, engine, initialization, check_stop=lambda: None):
    """Train, save, prune, reset, from `first_round` to the last of config.rounds.

    Args:
        config: Config.
        run: an open RunDir that holds the rounds before `first_round`.
        engine, initialization: as `prepare` gives them.
        check_stop: called every few seconds; what it raises ends the experiment.

    Raises:
        InputError: the data or a finished round are damaged, or the loss is not finite.
    """
    from lottery_tf.summaries import Summaries

    summaries = Summaries(run.path)
    prune = functools.partial(
        pruning.prune,
        fraction=config.prune_fraction,
        criterion=config.criterion,
        scope=config.scope,
    )
    if first_round:
        masks, _ = prune(run.final(first_round - 1), run.masks(first_round - 1))
    else:
        masks = engine.dense_masks()  # round 0 trains dense
    for round in range(first_round, config.rounds):
        began = time.perf_counter()
        initial = RESETS[config.reset](initialization, masks, round)
        final, history = train(engine, initial, masks, config, round, summaries, check_stop)
        pruned, threshold = prune(final, masks)
        metrics = {
            "round": round,
            "density": pruning.density(masks),
            "threshold": threshold.removed,
            **{name: history[-1][name] for name in LAST_EPOCH},
            "seconds": time.perf_counter() - began,
            "train_seconds": sum(row["train_seconds"] for row in history),
            "smallest_kept": threshold.kept,
            "remaining": pruning.remaining(masks),
        }
        summaries.finish_round(metrics, final, masks)
        run.save_round(
            round, masks=masks, initial=initial, final=final, history=history, metrics=metrics
        )
        console.print_row(metrics)
        masks = pruned


LAST_EPOCH = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def prepare(config, directory):
    """The engine of an experiment, and its initialization: a function of the round -> weights."""
    from lottery_tf import masking
    from lottery_tf.engine import Engine

    @functools.cache
    def first():
        return fresh(0)

    def fresh(round):
        seed = int(np.random.SeedSequence([config.init_seed, round]).generate_state(1)[0])
        shape, classes = directory.input_shape, directory.classes
        return masking.get_weights(models.build(config, shape, classes, seed=seed))

    return Engine(config, directory), lambda round: fresh(round) if round else first()


def train(engine, initial, masks, config, round, summaries, check_stop):
    """One round of training, shown on the console and in TensorBoard; as Engine.train."""
    progress = console.Progress(round, config.rounds, engine.steps)
    summaries.start_round(round)

    def on_piece(step, loss, accuracy):
        progress.update(step, engine.steps_per_epoch, loss, accuracy)
        check_stop()

    noise = Noise(config.data_seed, round)
    try:
        return engine.train(initial, masks, noise, on_piece=on_piece, on_epoch=summaries.add_epoch)
    finally:
        progress.close()


def main(config):
    """Checks everything, then runs or resumes the experiment; returns the exit status."""
    run = RunDir(config.run_dir)
    run.check(config)
    directory = datasets.find(config)
    quiet.import_tensorflow()
    engine, initialization = prepare(config, directory)
    with run.open(config) as finished, console.stop_signals() as check_stop:
        run.log(f"started at round {finished} of {config.rounds}; {versions()}")
        print(f"{run.path}: {finished} of {config.rounds} rounds are finished.")
        console.print_header()
        for metrics in run.metrics():
            console.print_row(metrics)
        try:
            experiment(config, run, finished, engine, initialization, check_stop)
        except console.Interrupted as interrupted:
            run.log(f"stopped by {interrupted}")
            again = shlex.join(["python", "-m", "lottery_tf.imp", *sys.argv[1:]])
            print(f"Stopped by {interrupted}. To resume: {again}", file=sys.stderr)
            return 128 + interrupted.signal
        except Exception as error:
            run.log(f"stopped: {error}")
            raise
        run.log("finished")
    return 0


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
