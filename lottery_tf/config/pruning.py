"""What is pruned, and what a round starts from."""

import dataclasses

from lottery_tf.config.fields import flag
from lottery_tf.config.methods import parse_layer_fraction
from lottery_tf.pruning.allocation import SCOPES, Amount
from lottery_tf.pruning.criteria import CRITERIA
from lottery_tf.pruning.resets import RESETS


@dataclasses.dataclass(frozen=True)
class PruningFlags:
    """Flags of the rounds."""

    rounds: int = flag(
        None,
        "Rounds of training, the dense round 0 included; may grow. Default: 25, or with --density "
        "or --densities one for each of them after round 0. There can be no more of these: a "
        "command lowers a larger value and prints a note.",
        at_least=1,
        how=True,
    )
    prune_fraction: float = flag(
        0.2, "Part of the surviving weights that is pruned after each round.", above=0, below=1
    )
    criterion: str = flag(
        "magnitude", "Score by which the lowest weights are pruned.", choices=tuple(CRITERIA)
    )
    scope: str = flag(
        "global",
        "global: scores compete over all layers; layer: in each; erk: in each, whose densities are "
        "in proportion to (sum of the kernel's dimensions) / (product of them).",
        choices=SCOPES,
    )
    reset: str = flag(
        "init",
        "What a round starts from: init = the initialization of round 0 (the ticket); rewind = "
        "round 0 after --rewind_to, BatchNorm's statistics too, the optimizer fresh; reinit = a "
        "fresh initialization, a function of (init_seed, round), on its own chain of masks; "
        "lr_rewind = the trained weights, with the schedule from --rewind_to on (default: its "
        "begin); finetune = the trained weights, at the schedule's last rate; signs and "
        "trained_signs = fresh magnitudes with the signs of W_0 or of the trained weights; shuffle "
        "= the surviving values of W_0, permuted in each kernel.",
        choices=tuple(RESETS),
    )
    rewind_to: str = flag(
        "", "Step (500) or epoch (4ep) of the schedule that --reset=rewind or lr_rewind goes to."
    )
    finetune_epochs: int | None = flag(
        None, "Epochs of --reset=finetune. Default: --epochs.", at_least=1, below=2**31
    )
    round_0_from: str = flag(
        "",
        "Run whose round 0 is taken, in place of training it: of the same flags, but for those of "
        "pruning and resets.",
        how=True,
    )
    masks_from: str = flag(
        "", "Run whose masks are used, of the same round each, in place of pruning."
    )
    shuffle_masks: str = flag(
        "none",
        "Move the masks of --masks_from to random places: in each layer, with its density; or over "
        "all layers.",
        choices=("none", "layer", "global"),
    )
    prune_at: str = flag(
        "round",
        "round: after each round; init: before a round trains, from the dense weights that it "
        "would start from; train: gradually, while it trains.",
        choices=("round", "init", "train"),
    )
    density: float | None = flag(
        None,
        "Density to prune to, in one round after the dense round 0. Default: --prune_fraction.",
        above=0,
        below=1,
    )
    densities: tuple[float, ...] = flag(
        (),
        "Densities of the rounds after round 0, falling, in place of --prune_fraction.",
        above=0,
        below=1,
    )
    prune_iterations: int | None = flag(
        None,
        "Prunings by which each density is reached, with the evidence gathered anew before each. "
        "Default: 100 for synflow, else 1.",
        at_least=1,
    )
    layer_fractions: tuple[str, ...] = flag(
        (), "With --scope=layer: layers with a prune fraction of their own, as logits:0.1."
    )
    keep_dense: tuple[str, ...] = flag(
        (), "Layers that are not pruned, by name or pattern, as logits or block_1*."
    )
    min_layer_weights: int = flag(
        0, "Weights that each layer keeps at least, against its collapse.", at_least=0
    )
    prune_schedule: str = flag(
        "polynomial",
        "Of --prune_at=train. polynomial: the density falls along a cubic from --prune_begin to "
        "--prune_end (Zhu & Gupta 2017); constant: it is that of the round from --prune_begin on.",
        choices=("polynomial", "constant"),
    )
    prune_begin: str = flag("0", "Step (500) or epoch (4ep) of the first gradual pruning.")
    prune_end: str = flag(
        "", "Step or epoch of the last one. Default: after three quarters of the training."
    )
    prune_frequency: int | None = flag(
        None,
        "Steps between two gradual prunings. Default: 100, or a tenth of --prune_begin "
        "to --prune_end where that is less.",
        at_least=1,
    )
    early_stop: str = flag(
        "none",
        "connected: once two rounds are linearly connected, the next one trains for --short_epochs "
        "(Maene et al. 2021 suggest it); the schedule is cut off there.",
        choices=("none", "connected"),
    )
    connected_error: float = flag(
        0.02,
        "Error barrier below which two rounds count as connected, on the examples that "
        "--validation_fraction holds out, 10,000 at most.",
        above=0,
        below=1,
    )
    short_epochs: int = flag(
        5, "Epochs of a round after two that are connected.", at_least=1, below=2**31
    )

    @property
    def targets(self) -> tuple[float, ...]:
        """Densities of the rounds after round 0, where --density or --densities asks for them.

        None where masks come from another run.
        """
        if self.masks_from:
            return ()
        return self.densities or (() if self.density is None else (self.density,))

    @property
    def most_rounds(self) -> int | None:
        """Round 0 and one for each of `targets`; None where a fraction is pruned."""
        return 1 + len(self.targets) if self.targets else None

    @property
    def prunes_at(self) -> str:
        """When weights are pruned: as --prune_at; "never" with the masks of another run."""
        return "never" if self.masks_from else self.prune_at

    def prunes_after(self, round: int) -> bool:
        """Whether weights are pruned between a round and the next, by what the round trained."""
        done = bool(self.targets) and round >= len(self.targets)
        return self.prunes_at == "round" and not done

    def density_after(self, round: int) -> float | None:
        """The density that the pruning after a round goes to; None: by --prune_fraction."""
        return self.targets[round] if self.targets else None

    def amount(self, density: float | None = None) -> Amount:
        """The Amount of a pruning to a density; without, by --prune_fraction."""
        return Amount(
            self.prune_fraction if density is None else None,
            density,
            self.scope,
            dict(map(parse_layer_fraction, self.layer_fractions)),
            self.keep_dense,
            self.min_layer_weights,
        )
