"""The one operation: these weights, under these masks, from step s to step t, with this noise."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion.optima import Optima
from lottery_tf.runs.checkpoints import Checkpoint

if TYPE_CHECKING:
    from lottery_tf.training.devices import Cluster


@dataclasses.dataclass(frozen=True)
class Training:
    """What Engine.train trains: of rounds, rewinding, controls, copies and repelled runs alike.

    Args:
        start: {variable path: array}, zero where masked; or a Checkpoint of the same training, to
            go on from there bit for bit.
        masks: {kernel path: bool array}.
        noise: Noise: the order of the data, augmentation and dropout.
        optima: Optima to be repelled from, or attracted to; None without.
        first, last: steps of the schedule; last=None for the whole of it. Behind its end the
            rate is that of its last step.
        density: to which it is pruned on the way, or that it keeps while its masks change; None
            where they stay.
    """

    start: Weights | Checkpoint
    masks: Masks
    noise: Noise
    optima: Optima | None = None
    first: int = 0
    last: int | None = None
    density: float | None = None

    @property
    def weights(self) -> Weights:
        """Return the start, where it is not a Checkpoint."""
        assert isinstance(self.start, dict), "A checkpoint tells nothing of the start."
        return self.start

    def pack(self) -> dict:
        """Dicts of arrays alone, as other workers are sent it; without the noise."""
        options = {"last": self.last, "density": self.density}
        return {
            **{name: np.array(value) for name, value in options.items() if value is not None},
            "start": self.start,
            "masks": self.masks,
            "optima": self.optima.pack() if self.optima else {},
            "first": np.array(self.first),
        }

    @classmethod
    def unpack(cls, packed: dict, noise: Noise) -> "Training":
        """Return the Training that `pack` was called on."""
        optima = Optima.unpack(packed.get("optima", {}))
        last = int(packed["last"]) if "last" in packed else None
        density = float(packed["density"]) if "density" in packed else None
        first = int(packed["first"])
        return cls(packed["start"], packed["masks"], noise, optima, first, last, density)

    def digest(self) -> str:
        """Return a hexadecimal number of all of it."""
        sums = hashlib.sha256(repr((self.noise, self.first, self.last)).encode())
        optima = self.optima.pack() if self.optima else {}
        for arrays in (self.weights, self.masks, optima):
            for path, array in arrays.items():
                sums.update(path.encode())
                sums.update(array.tobytes())
        return sums.hexdigest()


def broadcast_training(
    cluster: "Cluster", function: Callable[[], Training | None] | None, noise: Noise
) -> Training | None:
    """Return the Training that function() returns on the chief, on every worker; or None.

    Args:
        cluster: devices.Cluster.
        function: called on the chief; None elsewhere.
        noise: of the training, which every worker knows.
    """

    def pack() -> dict:
        training = function() if function else None
        return training.pack() if training else {}

    packed = cluster.broadcast(pack)
    return Training.unpack(packed, noise) if packed else None
