"""What the flags of pruning and resets must be together."""

from typing import Any

from lottery_tf.errors import InputError
from lottery_tf.pruning.criteria import needs
from lottery_tf.pruning.resets import ON_TRAINED
from lottery_tf.pruning.schedules import parse_step

# A flag that does nothing beside another one: {the other: flags}.
USELESS_BESIDE = {
    "masks_from": (
        "criterion", "prune_fraction", "scope", "density", "densities", "prune_at",
        "prune_iterations", "layer_fractions", "keep_dense", "min_layer_weights",
    ),
    "density": ("prune_fraction",),
    "densities": ("prune_fraction",),
}  # fmt: skip


def check_methods(config: Any) -> None:
    """Raises InputError if the flags of a Config do not make a method."""
    for name in ("rewind_to", "prune_begin", "prune_end"):
        if text := getattr(config, name):
            parse_step(f"--{name}", text, 1)
    if config.reset == "rewind" and not config.rewind_to:
        raise InputError("--reset=rewind expects --rewind_to, as --rewind_to=500 or 4ep.")
    for name in config.layer_fractions:
        parse_layer_fraction(name)
    if config.layer_fractions and config.scope != "layer":
        raise InputError("--layer_fractions expects --scope=layer.")
    if config.early_stop == "connected" and config.short_epochs >= config.epochs:
        raise InputError(
            f"--short_epochs: expected fewer than --epochs={config.epochs}. Received: "
            f"{config.short_epochs}"
        )
    _check_densities(config)
    if config.prunes_at in ("init", "train"):
        _check_early_pruning(config)


def _check_densities(config):
    if config.density is not None and config.densities:
        raise InputError("Expected --density or --densities, not both.")
    if list(config.densities) != sorted(set(config.densities), reverse=True):
        raise InputError(
            "--densities: expected numbers that fall, as 0.2,0.1,0.05. Received: "
            f"{','.join(map(str, config.densities))}"
        )
    most = config.most_rounds
    if most and config.rounds is not None and config.rounds > most:
        raise InputError(
            f"--rounds: expected at most {most}, round 0 and one for each target of --density or "
            f"--densities. Received: {config.rounds}. Leave it out, or give more --densities."
        )
    if config.targets and config.layer_fractions:
        raise InputError(
            "--layer_fractions are parts of the survivors; they do not go with --density or "
            "--densities."
        )


def _check_early_pruning(config):
    """What --prune_at=init and --prune_at=train expect."""
    at = f"--prune_at={config.prune_at}"
    if not config.targets:
        raise InputError(f"{at} expects --density or --densities.")
    if config.reset in ON_TRAINED:
        raise InputError(
            f"{at} prunes weights that were not pruned before, but --reset={config.reset} starts "
            "from those that the round before trained. Use another --reset, or --prune_at=round."
        )
    wanted = needs(config.criterion)
    if config.prune_at == "init" and wanted == {"initial", "trained"}:
        raise InputError(
            f"{at}: --criterion={config.criterion} compares the weights before a training and "
            "after it; here there is no training before. Use magnitude."
        )
    if config.prune_at == "train":
        if not wanted <= {"trained", "uniform"}:
            raise InputError(
                f"{at} expects a criterion of the weights as they are, as magnitude. Received: "
                f"--criterion={config.criterion}"
            )
        for name in ("repel", "prune_iterations"):
            if getattr(config, name):
                raise InputError(f"{at} does not go with --{name}: leave it out.")


def parse_layer_fraction(text: str) -> tuple[str, float]:
    """(layer, fraction) of "logits:0.1".

    Raises:
        InputError: it is not of this form.
    """
    layer, _, fraction = text.rpartition(":")
    try:
        value = float(fraction)
    except ValueError:
        value = 0.0
    if not layer or not 0 < value < 1:
        raise InputError(
            f"--layer_fractions: expected layers with fractions in (0, 1), as logits:0.1. "
            f"Received: {text}"
        )
    return layer, value
