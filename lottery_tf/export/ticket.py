"""What is exported: a finished round of a run or a masked model of the user's own, and its data.

Imports no TensorFlow before a network is asked for.
"""

import dataclasses
import json
import math
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from lottery_tf import __version__, datasets
from lottery_tf.analysis import statistics
from lottery_tf.analysis.runs import config_of, load, open_runs
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.datasets.layout import read_class_names
from lottery_tf.errors import InputError
from lottery_tf.export.raw_images import RawImages
from lottery_tf.pruning import Array
from lottery_tf.runs import provenance
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

EXAMPLES = 1_000  # at least so many of the test split are compared, where it has them
CALIBRATION = 500
Inputs = dict[str, Array]  # {name of an input: (examples, …)}


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A network to ship.

    Args:
        masked: its masked Keras model, with which an export is compared.
        images: how raw images become its inputs; None: it takes what the export takes.
        test, calibration: raw inputs.
        labels: of `test`, int (examples,), or None.
        classes: their names; none of a model of the user's own.
        provenance: where it comes from, for JSON.
    """

    masked: Any
    images: RawImages | None
    test: Inputs
    calibration: Inputs
    labels: Array | None
    classes: tuple[str, ...]
    provenance: dict[str, Any]


def of_run(run_dir: str | os.PathLike, round: str, *, data_dir: str | None = None,
           tolerance: float | None = None, examples: int = EXAMPLES) -> Ticket:  # fmt: skip
    """The ticket of a finished round.

    Args:
        run_dir: path of the run.
        round: its number, or "best", as `best_round`.
        data_dir: directory of the prepared datasets; by default that of the run.
        tolerance: as of `best_round`.
        examples: of the test split to compare an export on.

    Raises:
        InputError: there is no such run, round or dataset, the data are others than the run was
            trained on, or a file is damaged.
    """
    (run,) = open_runs([run_dir])
    if round == "best":
        number, chosen = best_round(run, tolerance)
    else:
        number, chosen = _finished(run, round), ""
    config = config_of(run, data_dir=data_dir)
    directory = datasets.find(config)
    if provenance.recorded(run.path):
        provenance.check(run.path, fingerprint(directory), directory.path)
    masked = load(run.path, number, data_dir=data_dir)
    images = RawImages.of(config, directory)
    test, labels = images.read(directory, "test", examples)
    calibration, _ = images.read(directory, "train", CALIBRATION)
    row = run.metrics()[number]
    return Ticket(
        masked, images, {"images": test}, {"images": calibration}, labels, class_names(directory),
        {
            "run": run.path.name, "round": number, "density": row["density"],
            **({"chosen": chosen} if chosen else {}),
            "test_accuracy": row["test_accuracy"], "flags": run.config(),
            "trained_with": _environment(run), "exported_with": versions(),
        },
    )  # fmt: skip


def _finished(run, round):
    """The number of a finished round."""
    count = run.finished_rounds()
    if not (str(round).isdecimal() and int(round) < count):
        raise InputError(
            f"--round: expected best, or a finished round of {run.path}, 0 to {count - 1}. "
            f"Received: {round}"
        )
    return int(round)


def best_round(run: RunDir, tolerance: float | None = None) -> tuple[int, str]:
    """Return (the sparsest round that matches the dense network, how it was chosen in words).

    What matches is the rule of the verdict "Matching" (statistics.matching_rows). Where no pruned
    network matches, it is the dense one.

    Args:
        run: with the rounds.
        tolerance: part of the examples that it may lose; by default one standard deviation of an
            accuracy on them.

    Raises:
        InputError: a tolerance below 0, or there is no dense network with an accuracy to match.
    """
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"--tolerance: expected at least 0. Received: {tolerance}")
    rows = run.metrics()
    dense, examples = statistics.dense_row(rows), statistics.test_examples(run)
    if dense is None or math.isnan(dense["test_accuracy"]):
        raise InputError(
            f"{run.path}: --round=best expects a dense round with a test accuracy to match, whose "
            "network has not collapsed. Found none. Name a round, as --round=5."
        )
    usual = statistics.tolerance(dense["test_accuracy"], examples)
    allowed = usual if tolerance is None else tolerance
    good = statistics.matching_rows(rows, allowed) or [dense]
    best = min(good, key=lambda row: row["density"])
    words = (
        f"the sparsest whose accuracy is that of the dense round {dense['round']}, "
        f"{dense['test_accuracy']:.2%}, less {100 * allowed:.2g} points"
    )
    if best is dense:
        words = f"the dense one, as no pruned network is {words.removeprefix('the sparsest ')}"
    return best["round"], f"{words}; chosen by {_chosen_on(run)}"


def _chosen_on(run):
    """What a choice by the accuracies of a run saw, in words."""
    config = run.config()
    split, part = config.get("test_split"), config.get("test_fraction")
    which = f"the split {split}" if split else "the test split"
    if part:
        which = f"the part of the training split that was held out, --test_fraction={part:g}"
    return (
        f"accuracy on {which}, so its accuracy there is optimistic; evaluate the export on "
        "examples that chose nothing"
    )


def of_file(path: str | os.PathLike, *, inputs: str | None = None,
            examples: int = EXAMPLES) -> Ticket:  # fmt: skip
    """The ticket of a masked model that was saved as a .keras file.

    Args:
        path: of the file.
        inputs: an .npz of arrays by the names of the model's inputs, with which the export is
            compared; by default drawn at random.
        examples: to draw.

    Raises:
        InputError: the file is no Keras model, it is not functional or sequential, has no masks,
            or `inputs` do not fit in name, shape or number.
    """
    quiet.import_tensorflow()
    import keras

    from lottery_tf import masking
    from lottery_tf.export import signatures

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever Keras raises for a file that it does not know
        reason, *_ = [*str(error).splitlines(), type(error).__name__]
        raise InputError(f"--model={path}: cannot load it: {reason}") from error
    masking.kernels(model)  # without masks it is none of this package
    test = _arrays(inputs, model) if inputs else signatures.random_inputs(model, examples)
    found = {"model": pathlib.Path(path).name, "exported_with": versions()}
    return Ticket(model, None, test, test, None, (), found)


def _arrays(path, model):
    """{name: array} of an .npz with the names and shapes of a model's inputs, in their order."""
    from lottery_tf.export import signatures

    names = signatures.input_names(model)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"--inputs={path}: expected an .npz of arrays. {error}") from None
    if set(arrays) != set(names):
        raise InputError(
            f"--inputs={path}: expected arrays called {', '.join(names)}. Found: "
            f"{', '.join(arrays) or 'none'}"
        )
    shapes = {name: (None, *of.shape[1:]) for name, of in zip(names, model.inputs, strict=True)}
    for name, shape in shapes.items():
        if not _fits(arrays[name].shape, shape):
            raise InputError(
                f"--inputs={path}: expected {name} of shape {shape}, examples first. Found: "
                f"{arrays[name].shape}"
            )
    counts = {name: len(arrays[name]) for name in names}
    if len(set(counts.values())) > 1:
        raise InputError(f"--inputs={path}: expected as many examples of each. Found: {counts}")
    return {name: arrays[name] for name in names}  # in the model's order


def _fits(shape, wanted):
    """Whether an array's shape is that of some examples: None stands for any length but 0."""
    return len(shape) == len(wanted) and all(
        length == most if most is not None else length > 0
        for length, most in zip(shape, wanted, strict=True)
    )


def class_names(directory: datasets.PreparedDataset) -> tuple[str, ...]:
    """The names of a dataset's classes; their numbers, where it has no names."""
    names = read_class_names(directory.path, directory.fields.label_key)
    numbers = tuple(map(str, range(directory.classes)))
    return tuple(names) if len(names) == directory.classes else numbers


def versions() -> dict[str, str]:
    """{package: version} of what exports."""
    import keras
    import tensorflow as tf

    return {"lottery_tf": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}


def _environment(run):
    """What the run says of where it was trained, if it does."""
    try:
        return json.loads((run.path / "environment.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
