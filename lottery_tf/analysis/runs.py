"""The runs and rounds that a measure is of, checked; their networks and engines.

Imports no TensorFlow before a network is asked for.
"""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery_tf import datasets, models
from lottery_tf.analysis.statistics import SEEDS
from lottery_tf.config import Config
from lottery_tf.config.environment import uses_onednn
from lottery_tf.config.record import MADE_BY_ROUNDS
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

if TYPE_CHECKING:  # these import TensorFlow
    import keras

    from lottery_tf.training.engine import Engine

Runs = Sequence[RunDir]
Groups = Mapping[str, Runs]  # {label: replicates}
Rounds = Sequence[str | int]  # as --at_rounds names them
Computing = Mapping[str, Any]  # where and how, as engine_of takes it
# Flags that runs must have in common to be compared, or evaluated with one engine.
SAME = (
    *("model", "dataset", "shortcut", "bn_affine", "image_size", "train_examples", "train_split"),
    *("test_split", "test_fraction", "validation_fraction", "image_key", "label_key"),
    "mixed_precision",
)
# Flags in which two runs of one experiment may differ: how they ran, and how far they are.
NOT_OF_EXPERIMENT = {
    "rounds",
    *(field.name for field in dataclasses.fields(Config) if field.metadata["how"]),
}

OF_RUNS = ("masks_from", "repel_runs")  # flags of the experiment that name runs
_SEED = re.compile(r"(?:^|(?<=/)|_)(seed|init_seed|data_seed)=(\d+)")


def open_runs(paths: Iterable[str | os.PathLike]) -> list[RunDir]:
    """Return the RunDirs of replicates at some paths, each with a finished round at least.

    InputError if there is none, if they are of different models or datasets, or if two are one.
    """
    runs = open_any_runs(paths)
    check_same_experiment(runs)
    check_replicates(runs)
    return runs


def open_any_runs(paths: Iterable[str | os.PathLike]) -> list[RunDir]:
    """Return the RunDirs at some paths as `open_runs`, of whatever models and datasets."""
    runs = [RunDir(os.path.normpath(os.path.abspath(path))) for path in paths]
    if not runs:
        raise InputError("--run_dir: expected one run or several, with commas. Received none.")
    for run in runs:
        run.config()  # says so if this is no run
        if not run.finished_rounds():
            raise InputError(f"{run.path} has no finished round.")
    return runs


def check_same_experiment(runs: Iterable[RunDir | None]) -> None:
    """Raise InputError if runs are of different models or datasets; None is no run."""
    first, *others = ((run.path, run.config()) for run in runs if run)
    for path, flags in others:
        for name in SAME:
            if flags[name] != first[1][name]:
                raise InputError(
                    f"Expected runs of one model and dataset. --{name} is {first[1][name]} in "
                    f"{first[0]}, {flags[name]} in {path}."
                )
        provenance.check_same(first[0], path)


def check_replicates(runs: Sequence[RunDir]) -> None:
    """Raise InputError if two of some runs are one: the same directory, a copy, or the same seeds.

    Training the same seeds twice, on another machine as well, tells nothing of their spread.
    """
    for one, other in itertools.combinations(runs, 2):
        if why := same_run(one, other):
            raise InputError(
                f"Expected replicates, which differ in their seeds. {other.path} is no replicate "
                f"of {one.path}: {why}. Name one of them."
            )


def same_run(one: RunDir, other: RunDir) -> str:
    """Return why two runs count as one, in words; "" if they do not."""
    if one.path.resolve() == other.path.resolve():
        return "both paths lead to the same directory"
    configs = [run.config() for run in (one, other)]
    if experiment(configs[0]) != experiment(configs[1]):
        return ""
    with contextlib.suppress(InputError):  # of a damaged run
        pairs = list(zip(finished(one), finished(other), strict=False))
        if pairs and all(a.fingerprint() == b.fingerprint() for a, b in pairs):
            return "its rounds are copies"
    if configs[0].get("made_by"):  # its network was of the user's own seeds, which nobody recorded
        return ""
    seeds = " ".join(f"--{name}={configs[0][name]}" for name in SEEDS)
    return f"both have the same flags and the same seeds, {seeds}"


def repeats(runs: Iterable[RunDir]) -> dict[RunDir, tuple[RunDir, str]]:
    """Return {a run that is an earlier one again: (that one, why in words)}, as of `same_run`."""
    found: dict[RunDir, tuple[RunDir, str]] = {}
    alike: dict[str, list[RunDir]] = {}
    for run in runs:
        before = alike.setdefault(experiment(run.config()), [])
        if again := next(((other, why) for other in before if (why := same_run(other, run))), None):
            found[run] = again
        else:
            before.append(run)
    return found


def experiment(config: Mapping[str, Any]) -> str:
    """Return what tells the experiment of a run, seeds included, from others."""
    return repr(sorted((n, v) for n, v in config.items() if n not in NOT_OF_EXPERIMENT))


def select_rounds(run: RunDir, at_rounds: Rounds, *, usual: Sequence[int] = ()) -> list[int]:
    """Return the rounds that --at_rounds names, checked.

    If it names none, those of the usual ones that are finished, or else the last; without usual
    ones, all.
    """
    count = run.finished_rounds()
    try:
        rounds = [int(text) for text in at_rounds]
    except ValueError:
        raise InputError(
            f"--at_rounds: expected numbers with commas, as 0,5,10. Received: "
            f"{','.join(map(str, at_rounds))}"
        ) from None
    for round in rounds:
        if not 0 <= round < count:
            raise InputError(
                f"--at_rounds: {run.path} has no finished round {round}. Its finished rounds are 0 "
                f"to {count - 1}."
            )
    if usual and not rounds:
        return [round for round in usual if round < count] or [count - 1]
    return rounds or list(range(count))


def select_common_rounds(
    runs: Iterable[RunDir], at_rounds: Rounds, *, usual: Sequence[int]
) -> list[int]:
    """Return the rounds as `select_rounds`, of those that all runs have."""
    runs = list(runs)
    for run in runs:
        select_rounds(run, at_rounds)
    return select_rounds(min(runs, key=RunDir.finished_rounds), at_rounds, usual=usual)


def metrics_with(run: RunDir, *columns: str) -> list[Row]:
    """Return the rows of RunDir.metrics(), {round, columns}; InputError if one lacks a column."""
    rows = run.metrics()
    for row in rows:
        if missing := [name for name in columns if name not in row]:
            raise InputError(
                f"{run.round_path(row['round'])}/metrics.csv lacks {', '.join(missing)}."
            )
    return [{name: row[name] for name in ("round", *columns)} for row in rows]


def as_groups(runs: RunDir | Groups) -> Groups:
    """Return {label: RunDirs}: a run alone has the name of its directory."""
    return {runs.path.name: [runs]} if isinstance(runs, RunDir) else runs


def check_at_least(least: int, **values: int) -> None:
    """Raise InputError if the value of an option is below `least`."""
    for name, value in values.items():
        if value < least:
            raise InputError(f"--{name}: expected at least {least}. Received: {value}")


def load(
    run_dir: str | os.PathLike,
    round: int,
    *,
    data_dir: str | None = None,
    model: "keras.Model | None" = None,
) -> "keras.Model":
    """Return the masked Keras model of a finished round, with its trained weights and masks.

    The model takes images as the run's network does, (pixel / 255 - mean) / std, and returns
    logits. Its layers have the names that they have in the run.

    Args:
        run_dir: the path of the run directory.
        round: the number of the round.
        data_dir: the directory of the prepared datasets, from which the shape of the images and the
            number of classes are read. Default: the one that the run used.
        model: for a directory that `lottery_tf.rounds` made, your own masked model, built like the
            one that was trained. It is set to the round in place and returned.

    Raises:
        InputError: the run, the round, the model or the dataset does not exist; a file is damaged;
            or the model is not the one that was trained.
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


def network_of(run: RunDir, *, data_dir: str | None = None) -> "keras.Model":
    """Return a new network as the run's, with arbitrary weights; arguments as in `load`."""
    config = config_of(run, data_dir=data_dir)
    directory = datasets.find(config)
    quiet.import_tensorflow(uses_onednn(run.path))
    return models.build(config, directory.input_shape, directory.classes, seed=0)


def config_of(
    run: RunDir, *, data_dir: str | None = None, strategy: str = "auto", jit_compile: str = "auto"
) -> Config:
    """Return the Config of a run, computing where and how the arguments say.

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
    if unknown := recorded.keys() - {field.name for field in dataclasses.fields(Config)}:
        raise InputError(
            f"{run.path}/config.json has flags that this version does not know: "
            f"{', '.join(sorted(unknown))}. Use the version that made it."
        )
    changes = {"run_dir": str(run.path), "data_dir": data_dir or recorded["data_dir"]}
    try:
        return Config.recorded(recorded, **changes, strategy=strategy, jit_compile=jit_compile)
    except InputError as error:
        raise InputError(f"{run.path}/config.json: {error}") from None


def engine_of(run: RunDir, *, own_process: bool = False, **computing: Any) -> "Engine":
    """Return the Engine of a run, on one machine; options as in `config_of`.

    With `own_process`, which only commands may ask for, it sets what holds for the whole process
    as the run's command does: the seed, and --deterministic.

    Raises:
        InputError: the data are not those that the run was trained on, or are damaged.
    """
    config = config_of(run, **computing)
    directory = datasets.find(config)
    if provenance.recorded(run.path):
        provenance.check(run.path, fingerprint(directory), directory.path)
    quiet.import_tensorflow(uses_onednn(run.path))
    from lottery_tf.training.devices import connect, take_process
    from lottery_tf.training.engine import Engine

    if own_process:
        take_process(config)
    cluster = connect(config)
    if cluster.workers > 1:
        raise InputError("This tool runs on one machine. Unset TF_CONFIG, or name --strategy.")
    return Engine(config, directory, cluster)


def first_examples(engine: "Engine", count: int) -> tuple[Array, Array]:
    """Return the first images and labels of the training split, or all if it has fewer."""
    batches, found = [], 0
    for batch in engine.feed.train_batches():
        batches.append(batch)
        if (found := found + len(batch[1])) >= count:
            break
    images, labels = (np.concatenate(some)[:count] for some in zip(*batches, strict=True))
    return images, labels


def beside_seeds(name: str, value: Any, seeds: Mapping[str, int | None]) -> Any:
    """Return the value of a flag without the seeds in the names of runs: alike for replicates.

    So the masks_from=runs/criterion=snip_seed=1 of a run of seed 1 is runs/criterion=snip; that of
    a run of another seed stays, for it is no replicate. The names are those that tools.sweep and
    the experiment itself give; runs called otherwise stay apart. A value is what a Config or a
    config.json has; `seeds` are {name of statistics.SEEDS: that of the run that has the flag}.
    """
    if name not in OF_RUNS:
        return value

    def without(path: str) -> str:
        return _SEED.sub(lambda of: "" if seeds.get(of[1]) == int(of[2]) else of[0], path)

    return without(value) if isinstance(value, str) else type(value)(map(without, value))
