"""Reads what is exported: a finished round of a run, or the user's masked model, and its data."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import __version__, datasets, masking
from lottery_tf.analysis import statistics
from lottery_tf.analysis.runs import config_of, load, open_runs
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset, tfrecords
from lottery_tf.datasets.augmentation import centre_crop
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.datasets.layout import read_class_names
from lottery_tf.datasets.statistics import channel_statistics
from lottery_tf.errors import InputError
from lottery_tf.export import published, signatures
from lottery_tf.pruning import Array
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

EXAMPLES = 1_000  # that an export is compared on, if the test split has so many
CALIBRATION = 500
LARGER = 1.5  # raw images of any size are tried in this multiple of the network's
Inputs = dict[str, Array]  # {name of an input: (examples, …)}


@dataclasses.dataclass(frozen=True)
class RawImages:
    """Turns raw images, as a dataset stores them, into the normalized inputs of a network."""

    shape: tuple[int, int, int]  # (height, width, channels) of an input
    dtype: str  # of raw pixels: "uint8", "uint16" or "float32"
    mean: Array  # per channel, of pixels in 0 … 1 (of float32, of the pixels as they are)
    std: Array
    any_size: bool  # whether raw images of any size are cropped in the centre, as in evaluation

    @property
    def white(self) -> int:
        """The pixel value that counts as 1."""
        return {"uint8": 255, "uint16": 65535}.get(self.dtype, 1)

    @property
    def words(self) -> str:
        """The normalisation in words."""
        pixel = "pixel" if self.white == 1 else f"pixel / {self.white}"
        means, stds = (
            ", ".join(f"{value:.6g}" for value in array) for array in (self.mean, self.std)
        )
        size = f"cropped to {self.shape[0]} x {self.shape[1]}, then " if self.any_size else ""
        return f"{size}({pixel} - mean) / std by channel, mean {means}, std {stds}"

    def read(self, directory: PreparedDataset, split: str, count: int) -> tuple[Array, Array]:
        """Read the first raw images of a split and their labels; of one size, if theirs vary."""
        size = int(LARGER * self.shape[0]) if self.any_size else 0
        parts: list[tuple[Array, Array]] = []
        for part in tfrecords.stream_raw(directory, split, size=size):
            parts.append(part)
            if sum(len(labels) for _, labels in parts) >= count:
                break
        images, labels = (np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True))
        return images, labels

    def normalised(self, raw: Array) -> Array:
        """Return the inputs of a network for raw images, as in training and evaluation."""
        pixels = self.cropped(raw).astype(np.float32) / np.float32(self.white)
        return (pixels - self.mean) / self.std

    def cropped(self, raw: Array) -> Array:
        """Crop raw images to the network's size, as evaluation does."""
        if not self.any_size:
            return raw
        size, channels = self.shape[0], self.shape[2]
        # In a graph that does not know the size, as evaluation: a division of a known size rounds
        # otherwise, and moves the window.
        spec = tf.TensorSpec((None, None, channels), raw.dtype)
        crop = tf.function(
            lambda image: centre_crop(image, size, channels),
            input_signature=[spec],
            autograph=False,
        )
        return np.stack([crop(image) for image in raw])

    def before(self, network: keras.Model) -> keras.Model:
        """Return a model that takes raw images of the network's size and gives its outputs."""
        raw = keras.Input(self.shape, dtype=self.dtype, name="images")
        std = self.std.astype(np.float64)
        scaled = keras.layers.Rescaling(
            (1 / (std * self.white)).tolist(), (-self.mean / std).tolist(), name="normalise"
        )(raw)
        return keras.Model(raw, network(scaled), name=network.name)


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A network to ship."""

    masked: keras.Model  # with which an export is compared
    images: RawImages | None  # how raw images become its inputs; None: it takes what they are
    test: Inputs  # raw
    calibration: Inputs
    labels: Array | None  # of `test`, int (examples,)
    classes: tuple[str, ...]  # their names; none for a model of the user's own
    provenance: dict[str, Any]  # where it comes from, for JSON
    source: FinishedRound | None = None  # the round of a run; None of a model of the user's own

    def of_one_size(self) -> "Ticket":
        """Return the ticket with raw images of the network's size, for formats that cannot crop."""
        images = self.images
        if not (images and images.any_size):
            return self
        return dataclasses.replace(
            self,
            images=dataclasses.replace(images, any_size=False),
            test={"images": images.cropped(self.test["images"])},
            calibration={"images": images.cropped(self.calibration["images"])},
        )


def of_run(
    run_dir: str | os.PathLike,
    round: str,
    *,
    data_dir: str | None = None,
    tolerance: float | None = None,
    examples: int = EXAMPLES,
) -> Ticket:
    """Return the ticket of a finished round.

    Args:
        run_dir: path of the run.
        round: its number, or "best", by `best_round` with this tolerance.
        data_dir: directory of the prepared datasets; by default that of the run.
        tolerance: as of `best_round`.
        examples: the number of the test split's examples to compare an export on.

    Raises:
        InputError: there is no such run, round or dataset, the run was trained on other data, or
            a file is damaged.
    """
    (run,) = open_runs([run_dir])
    count = run.finished_rounds()
    chosen = {}
    if round == "best":
        number, words = best_round(run, tolerance)
        chosen = {"chosen": words}
    elif round.isdecimal() and int(round) < count:
        number = int(round)
    else:
        raise InputError(
            f"--round: expected best, or a finished round of {run.path}, 0 to {count - 1}. "
            f"Received: {round}"
        )
    config = config_of(run, data_dir=data_dir)
    directory = datasets.find(config)
    if provenance.recorded(run.path):
        provenance.check(run.path, fingerprint(directory), directory.path)
    masked = load(run.path, number, data_dir=data_dir)
    shape, dtype = directory.input_shape, directory.fields.dtype
    images = RawImages(shape, dtype, *channel_statistics(config, directory), not directory.one_size)
    test, labels = images.read(directory, "test", examples)
    calibration, _ = images.read(directory, "train", CALIBRATION)
    row, evaluated = run.metrics()[number], statistics.test_examples(run)
    source, flags = FinishedRound(run.path, number), run.config()
    try:  # a run of rounds in the user's own program records no environment
        environment = json.loads((run.path / "environment.json").read_text("utf-8"))
    except (OSError, ValueError):
        environment = None
    names = read_class_names(directory.path, directory.fields.label_key)
    if len(names) != directory.classes:
        names = list(map(str, range(directory.classes)))
    return Ticket(
        masked,
        images,
        {"images": test},
        {"images": calibration},
        labels,
        tuple(names),
        {
            "run": run.path.name,
            "round": number,
            "density": row["density"],
            **chosen,
            "test_accuracy": row["test_accuracy"],
            "test_accuracy_error": statistics.tolerance(row["test_accuracy"], evaluated),
            "test_examples": evaluated,
            "seeds": {name: flags[name] for name in ("seed", *statistics.SEEDS)},
            "data": {
                "name": config.dataset,
                "version": directory.path.name,
                "shape": directory.fields.size,
                "dtype": dtype,
                "preparation": _preparation(config, directory),
                "fingerprint": provenance.recorded(run.path),
            },
            "normalisation": {
                "white": images.white,
                "mean": images.mean.tolist(),
                "std": images.std.tolist(),
                "words": images.words,
            },
            "class_names": names,
            "weights_sha256": published.digest(source.final()),
            "last_step": int(run.history(number)[-1]["step"]),
            # Where this machine keeps its data tells others nothing.
            "flags": {name: value for name, value in flags.items() if name != "data_dir"},
            "trained_with": environment,
            "exported_with": _versions(),
        },
        source,
    )


def _preparation(config: Config, directory: PreparedDataset) -> str:
    """Return how the images of a dataset became those of a training, in words."""
    train = f"trained on {config.train_examples or 'all'} examples of {config.train_split}"
    augment = f"--augment={config.augment}"
    held = f", --test_fraction={config.test_fraction:g}" if config.test_fraction else ""
    return f"{directory.fields.image}; {train}{held}, {augment}"


def best_round(run: RunDir, tolerance: float | None = None) -> tuple[int, str]:
    """Return the sparsest round that matches the dense network, and the choice in words.

    The verdict "Matching" (statistics.matching_rows) decides what matches. If no pruned network
    does, the dense one is chosen. The tolerance is the part of the examples that the round may
    lose, by default one standard deviation of an accuracy on them.

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
    config = run.config()
    which = f"the split {config['test_split']}" if config.get("test_split") else "the test split"
    if part := config.get("test_fraction"):
        which = f"the part of the training split that was held out, --test_fraction={part:g}"
    return best["round"], (
        f"{words}; chosen by accuracy on {which}, so its accuracy there is optimistic; evaluate "
        "the export on other examples"
    )


def of_file(path: str | os.PathLike, *, inputs: str | None = None) -> Ticket:
    """Return the ticket of a masked model that was saved as a .keras file.

    Args:
        path: of the file.
        inputs: an .npz of arrays by the names of the model's inputs, with which the export is
            compared; by default EXAMPLES are drawn at random.

    Raises:
        InputError: the file is no Keras model, it is not functional or sequential, has no masks,
            or `inputs` do not fit in name, shape or number.
    """
    quiet.import_tensorflow()  # refuses a Keras with another backend or other settings
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever Keras raises for a file that it does not know
        reason, *_ = [*str(error).splitlines(), type(error).__name__]
        raise InputError(f"--model={path}: cannot load it: {reason}") from error
    masking.kernels(model)  # raises if there are no masks
    test = _arrays(inputs, model) if inputs else signatures.random_inputs(model, EXAMPLES)
    origin = {
        "model": pathlib.Path(path).name,
        "weights_sha256": published.digest(masking.get_weights(model)),
        "exported_with": _versions(),
    }
    return Ticket(model, None, test, test, None, (), origin)


def _arrays(path: str | os.PathLike, model: keras.Model) -> Inputs:
    """Read {name: array} with the names and shapes of a model's inputs from an .npz."""
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
    for name, tensor in zip(names, model.inputs, strict=True):
        shape, expected = arrays[name].shape, (None, *tensor.shape[1:])
        fits = len(shape) == len(expected) and all(
            length == wanted or (wanted is None and length)
            for length, wanted in zip(shape, expected, strict=True)
        )
        if not fits:
            raise InputError(
                f"--inputs={path}: expected {name} of shape {expected}, examples first. Found: "
                f"{shape}"
            )
    counts = {name: len(arrays[name]) for name in names}
    if len(set(counts.values())) > 1:
        raise InputError(f"--inputs={path}: expected as many examples of each. Found: {counts}")
    return {name: arrays[name] for name in names}  # in the model's order


def _versions() -> dict[str, str]:
    """Return {package: version} of the exporting program, and the commit of a checkout."""
    found = {"lottery_tf": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}
    git, here = ["git", "-C", str(pathlib.Path(__file__).parent)], pathlib.Path(__file__).name
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # it is no checkout
        for question in (
            ["ls-files", "--error-unmatch", here],  # whether the file is of that repository
            ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        ):
            answer = subprocess.run([*git, *question], check=True, capture_output=True, text=True)
        found["commit"] = answer.stdout.strip()
    return found
