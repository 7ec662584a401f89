"""From a finished run to its network, and to an engine that evaluates and trains it.

Imports no TensorFlow before a network is asked for.
"""

import dataclasses
import os
from typing import Any

from lottery_tf import datasets, models
from lottery_tf.analysis.runs import open_runs, select_rounds
from lottery_tf.config import Config
from lottery_tf.config.record import MADE_BY_ROUNDS
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.errors import InputError
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet


def load(run_dir: str | os.PathLike, round: int, *, data_dir: str | None = None,
         model: Any = None) -> Any:  # fmt: skip
    """The masked Keras model of a finished round, its trained weights and its masks in place.

    It takes images as the run's network does, (pixel / 255 - mean) / std, and gives logits. Its
    layers have the names that they have in the run, whatever the process has built before.

    Args:
        run_dir: path of the run.
        round: number of the round.
        data_dir: directory that holds the prepared datasets, whose images' shape and classes are
            read; by default that of the run.
        model: for a directory that `lottery_tf.rounds` made: your own masked model, built as the
            one that was trained. It is set to the round in place, and returned.

    Raises:
        InputError: there is no such run, round, model or dataset, or a file is damaged; the model
            is another one.
    """
    from lottery_tf import masking

    (run,) = open_runs([run_dir])
    (round,) = select_rounds(run, [round])
    if model is not None:
        from lottery_tf.loop import checks, model_store

        checks.check_built(model, "load")
        model_store.place(run, round, model)
        return model
    network, finished_round = network_of(run, data_dir=data_dir), FinishedRound(run.path, round)
    masking.set_weights(network, finished_round.final(), finished_round.masks())
    return network


def network_of(run: RunDir, *, data_dir: str | None = None) -> Any:
    """A new network as the run's; its weights mean nothing. Arguments and errors as in `load`."""
    config = config_of(run, data_dir=data_dir)
    directory = datasets.find(config)
    quiet.import_tensorflow()
    return models.build(config, directory.input_shape, directory.classes, seed=0)


def config_of(run: RunDir, *, data_dir: str | None = None, strategy: str = "auto",
              jit_compile: str = "auto") -> Config:  # fmt: skip
    """The Config of a run, with what says how to compute as the flags of a tool say it.

    Raises:
        InputError: its record is not as this version writes it.
    """
    recorded = run.config()
    if recorded.get("made_by") == MADE_BY_ROUNDS:
        raise InputError(
            f"{run.path} was made by {MADE_BY_ROUNDS} around a fit of your own, so its network and "
            "its data are not known here. Tools on weights alone read it: distances, histograms, "
            "learning, masks, successive, thresholds. In Python, lottery_tf.load(run_dir, round, "
            "model=model) sets your own masked model to a round."
        )
    known = {field.name for field in dataclasses.fields(Config)}
    if unknown := recorded.keys() - known:
        raise InputError(
            f"{run.path}/config.json has flags that this version does not know: "
            f"{', '.join(sorted(unknown))}. Use the version that made it."
        )
    changes = {"run_dir": str(run.path), "data_dir": data_dir or recorded["data_dir"]}
    try:
        return Config.recorded(recorded, **changes, strategy=strategy, jit_compile=jit_compile)
    except InputError as error:
        raise InputError(f"{run.path}/config.json: {error}") from None


def engine_of(run: RunDir, *, own_process: bool = False, **computing: Any) -> Any:
    """The Engine of a run, on one machine; options as in `config_of`.

    Args:
        run: the run.
        own_process: whether to set what holds for the whole process, as the run's command does:
            the seed, and --deterministic. Only commands may.
        computing: as `config_of` takes it.

    Raises:
        InputError: the data are not those that the run was trained on, or are damaged.
    """
    config = config_of(run, **computing)
    directory = datasets.find(config)
    if provenance.recorded(run.path):
        provenance.check(run.path, fingerprint(directory), directory.path)
    quiet.import_tensorflow()
    from lottery_tf.training.devices import connect, take_process
    from lottery_tf.training.engine import Engine

    if own_process:
        take_process(config)
    cluster = connect(config)
    if cluster.workers > 1:
        raise InputError("This tool runs on one machine. Unset TF_CONFIG, or name --strategy.")
    return Engine(config, directory, cluster)
