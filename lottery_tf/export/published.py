"""Saves and loads ticket.npz, a small file from which anybody trains the same ticket.

    ticket = lottery_tf.load_ticket("data/tickets/lenet_mnist_seed0_density3.5.npz")
    weights, history = ticket.train(data_dir="data")

| array | |
|---|---|
| `about` | JSON: architecture (as Keras writes it), variables {path: (shape, type)}, provenance |
| `masks/<kernel>` | its mask, a bit for each weight (`numpy.packbits`) |
| `initial/<variable>` | W_0 |
| `start/<variable>` | where the round started, if that is not W_0 |
| `weights/<variable>` | where it ended, unless it was saved without |

Of a kernel only the weights that survived are stored: training never reads the others. They are
uint8 (bytes of a number, survivors), which deflates better than numbers one after the other.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery_tf.datasets import packaged
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.pruning.policy import IN_TRAINING
from lottery_tf.pruning.top_k import apply_masks
from lottery_tf.runs import files
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

if TYPE_CHECKING:  # it imports TensorFlow
    import keras

FILE = "ticket.npz"
KINDS = ("initial", "start", "weights")


@dataclasses.dataclass(frozen=True)
class PublishedTicket:
    """A ticket that `tools.export --card` or the zoo published; `load_ticket` reads it.

    Pruned weights are zeros in all arrays.

    Attributes:
        masks: {kernel path: bool array of the kernel's shape}.
        initial_weights: {variable path: float32 array}, W_0 of every variable; None of a masked
            model that came without a run.
        rewind_weights: the same, where the round started if not from W_0, as --reset=rewind does;
            else None.
        weights: the same, where the round ended; None of a ticket that was saved without.
        provenance: run, round, density, test accuracy, flags, seeds, data, normalisation, class
            names and versions, as in export.json.
        architecture: the masked network, as Keras writes it in JSON.
    """

    masks: Masks
    initial_weights: Weights | None
    rewind_weights: Weights | None
    weights: Weights | None
    provenance: dict[str, Any]
    architecture: str

    @property
    def start(self) -> Weights:
        """The weights that training starts from; of a ticket without a run, the trained ones."""
        known = (self.rewind_weights, self.initial_weights, self.weights)
        return next(weights for weights in known if weights is not None)

    @functools.cached_property
    def model(self) -> "keras.Model":
        """The masked Keras model at `start`; a run's takes normalised images and gives logits.

        Keras builds it on the backend of KERAS_BACKEND. Networks with layers of this package, as
        ResNet's, need TensorFlow.
        """
        if quiet.backend() == "tensorflow":
            quiet.import_tensorflow(None)
            from lottery_tf.models import layers  # noqa: F401  (Keras finds them by their names)
        import keras

        from lottery_tf import masking

        try:
            network = keras.models.model_from_json(self.architecture)
        except Exception as error:  # as where a layer of the user's own is not imported
            raise InputError(f"The ticket's network cannot be built: {error}") from error
        masking.set_weights(network, masking.get_weights(network) | self.start, self.masks)
        return network

    def save(self, path: str | os.PathLike, *, weights: bool = True) -> None:
        """Write the ticket as one file for `load_ticket`; the trained weights only if asked for.

        Without them the file is half as large. `train` computes them; provenance has their SHA-256.
        """
        kinds = zip(KINDS, (self.initial_weights, self.rewind_weights), strict=False)
        kept = {kind: found for kind, found in kinds if found is not None}
        if weights and self.weights is not None:
            kept["weights"] = self.weights
        about = {
            "architecture": self.architecture,
            "variables": {
                p: (a.shape, a.dtype.name) for p, a in (self.weights or self.start).items()
            },
            "provenance": self.provenance,
        }
        text = json.dumps(about).encode()
        arrays: dict[str, Array] = {"about": np.frombuffer(text, np.uint8)}
        arrays |= {f"masks/{path}": np.packbits(mask) for path, mask in self.masks.items()}
        for kind, found in kept.items():
            for name, array in found.items():
                alive = array[self.masks[name]] if name in self.masks else array.reshape(-1)
                planes = np.ascontiguousarray(alive).view(np.uint8).reshape(-1, array.itemsize)
                arrays[f"{kind}/{name}"] = np.ascontiguousarray(planes.T)
        pathlib.Path(path).write_bytes(files.format_npz(arrays, compressed=True))

    def train(self, *, data_dir: str | None = None) -> tuple[Weights, list[Row]]:
        """Train the ticket once more, with the flags, data order and steps of its run.

        On the machine that made it this gives the bytes of `weights`; elsewhere floating-point
        numbers may round otherwise.

        Args:
            data_dir: directory of the prepared datasets.

        Returns:
            (weights, history): {variable path: array} at the end, and a row per epoch.

        Raises:
            InputError: the ticket came without a run, the run used more than it holds, or there
                are no such data.
        """
        from lottery_tf import datasets
        from lottery_tf.config import Config
        from lottery_tf.config.environment import ONEDNN
        from lottery_tf.datasets.fingerprint import fingerprint
        from lottery_tf.pruning.streams import Noise

        about = self.provenance
        if self.initial_weights is None:
            raise InputError("The ticket came without a run: train `model` with a fit of your own.")
        changes = {"run_dir": "runs/ticket", "data_dir": data_dir or Config.data_dir}
        config, number = Config.recorded(about["flags"], **changes), about["round"]
        if config.repel or (number and config.policy.prunes_at in IN_TRAINING):
            raise InputError(
                "The ticket cannot be trained alone: its run was repelled from other solutions, or "
                "pruned while it trained. Train it with its flags: lottery_tf.imp."
            )
        directory = datasets.find(config)
        if (data := about["data"]) and fingerprint(directory) != data["fingerprint"]:
            raise InputError(
                f"{directory.path} holds other data than the ticket was trained on: expected "
                f"{data['fingerprint']}. Received: {fingerprint(directory)}"
            )
        onednn = (about["trained_with"] or {}).get(ONEDNN)
        quiet.import_tensorflow(None if onednn is None else onednn == "on")
        from lottery_tf.training.devices import connect, own_process
        from lottery_tf.training.engine import Engine
        from lottery_tf.training.training import Training

        with own_process(config):
            engine = Engine(config, directory, connect(config))
            steps = {"rewind": engine.rewind_step, "lr_rewind": engine.rewind_step}
            first = (steps | {"finetune": engine.steps}).get(config.reset, 0) if number else 0
            last = None if about["last_step"] == engine.steps else about["last_step"]
            noise = Noise(config.data_seed, number)
            return engine.train(Training(self.start, self.masks, noise, None, first, last))


def of_network(
    network: "keras.Model", provenance: dict[str, Any], source: FinishedRound | None
) -> PublishedTicket:
    """Return the ticket to publish.

    Args:
        network: masked, at the end of its training.
        provenance: for JSON.
        source: the round of a run that it is; None of a model of the user's own.
    """
    from lottery_tf import masking

    masks, initial, rewound = masking.get_masks(network), None, None
    if source:
        run = RunDir(source.run)
        start, initial = run.initial(source.round), apply_masks(run.initial(0), masks)
        if any(not np.array_equal(start[path], initial[path]) for path in start):
            rewound = start
    weights = masking.get_weights(network)
    return PublishedTicket(masks, initial, rewound, weights, provenance, network.to_json())


def load_ticket(path: str | os.PathLike) -> PublishedTicket:
    """Return a published ticket: masks, initial weights, rewind point, weights and provenance.

    Args:
        path: of a ticket.npz, under whatever name, or of a directory that holds one, as
            `tools.export --card --format=keras` writes it. A data/tickets/<name>.npz that is not
            here is taken from the package.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = pathlib.Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.exists() and path.parent == pathlib.Path("data", "tickets"):
        file = packaged("data") / "tickets" / path.name
    try:
        arrays = files.parse_npz(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: expected a ticket. {error.strerror}.") from None
    except InputError as error:
        raise InputError(f"{file} is no ticket: {error}") from None
    try:
        return _parse(arrays)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is no ticket: {error!r}") from None


def _parse(arrays: dict[str, Array]) -> PublishedTicket:
    about = json.loads(arrays["about"].tobytes())
    variables = about["variables"]
    masks: Masks = {}
    for name, bits in arrays.items():
        kind, _, path = name.partition("/")
        if kind == "masks":
            shape = tuple(variables[path][0])
            masks[path] = np.unpackbits(bits)[: int(np.prod(shape))].astype(bool).reshape(shape)
    kept: dict[str, Weights] = {}
    for kind in KINDS:
        if not any(name.startswith(f"{kind}/") for name in arrays):
            continue
        kept[kind] = {}
        for path, (shape, dtype) in variables.items():
            planes = arrays[f"{kind}/{path}"]
            alive = np.ascontiguousarray(planes.T).view(dtype).reshape(-1)
            kept[kind][path] = array = np.zeros(shape, dtype)
            array[masks[path] if path in masks else np.ones(shape, bool)] = alive
    if not kept:
        raise ValueError("it has no weights")
    return PublishedTicket(
        masks,
        kept.get("initial"),
        kept.get("start"),
        kept.get("weights"),
        about["provenance"],
        about["architecture"],
    )


def digest(weights: Weights) -> str:
    """Return the SHA-256 of weights: of the path, type, shape and bytes of each, in their order."""
    found = hashlib.sha256()
    for path, array in weights.items():
        found.update(f"{path} {array.dtype.name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
