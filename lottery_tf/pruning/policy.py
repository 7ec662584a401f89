"""When weights are pruned, and to which density. NumPy only."""

import dataclasses
from collections.abc import Mapping

from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.structure import Structure

IN_TRAINING = ("train", "dynamic")  # where masks change while a round trains


@dataclasses.dataclass(frozen=True)
class MaskPolicy:
    """When the weights of a run are pruned, and how many are left.

    Args:
        prunes_at: "round": after each round; "init": before a round trains; "train": gradually,
            while it trains; "dynamic": before it trains, and then weights are dropped and others
            grow; "never": the masks are those of another run.
        targets: the densities of the rounds after round 0; empty: each pruning removes `fraction`
            of the survivors.
        fraction, scope, layer_fractions, keep_dense, min_layer_weights, structure: as of
            SparsityTarget.
    """

    prunes_at: str
    targets: tuple[float, ...]
    fraction: float
    scope: str
    layer_fractions: Mapping[str, float]
    keep_dense: tuple[str, ...]
    min_layer_weights: int
    structure: Structure | None = None

    @property
    def most_rounds(self) -> int | None:
        """Return the number of rounds that the targets allow, round 0 included; None without."""
        return 1 + len(self.targets) if self.targets else None

    def prunes_after(self, round: int) -> bool:
        """Return whether weights are pruned between a round and the next one."""
        reached = bool(self.targets) and round >= len(self.targets)
        return self.prunes_at == "round" and not reached

    def target(self, round: int) -> SparsityTarget | None:
        """Return the target of the pruning between a round and the next one; None without one."""
        if self.prunes_at == "never" or (self.targets and round >= len(self.targets)):
            return None
        return self.to_density(self.targets[round] if self.targets else None)

    def to_density(self, density: float | None) -> SparsityTarget:
        """Return the target of a pruning to a density; None: of one that removes `fraction`."""
        return SparsityTarget(
            fraction=self.fraction if density is None else None,
            density=density,
            scope=self.scope,
            layer_fractions=self.layer_fractions,
            keep_dense=self.keep_dense,
            min_layer_weights=self.min_layer_weights,
            structure=self.structure,
        )
