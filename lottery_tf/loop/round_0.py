"""The round 0 of another run, and what other runs must be to be used. NumPy only."""

import pathlib
from typing import TYPE_CHECKING

from lottery_tf.config import Config, sections
from lottery_tf.errors import InputError
from lottery_tf.runs import provenance, rewind_points
from lottery_tf.runs.rundir import RunDir, differences

if TYPE_CHECKING:
    from lottery_tf.loop.pruning_rounds import PruningRounds

# What round 0, which is dense, starts from W_0 and is repelled from no round before, does not
# depend on. (--repel_runs repels it; that is refused.)
LATER = {field.name for first in ("rounds", "repel") for field in sections()[first]}


def check_other_runs(config: Config) -> None:
    """Raise InputError if a run that a flag names is not one, or does not fit this one."""
    if config.round_0_from and config.repel and config.repel_runs:
        raise InputError(
            "--round_0_from: round 0 of this run is repelled from --repel_runs, another run's is "
            "not. Leave one of them out."
        )
    paths = {path: pathlib.Path(path).resolve() for path in config.repel_runs}
    if len(set(paths.values())) < len(config.repel_runs):
        raise InputError(
            f"--repel_runs: expected each run once. Received: {','.join(config.repel_runs)}, of "
            "which two lead to the same directory."
        )
    for path in config.repel_runs:
        if not _of_same_network(config, "repel_runs", path).finished_rounds():
            raise InputError(f"--repel_runs={path}: expected a run with a finished round.")
    if config.masks_from:
        _of_same_network(config, "masks_from", config.masks_from)
    if config.round_0_from:
        _check_round_0(config)


def check_data(config: Config, data: provenance.Fingerprint, where: pathlib.Path) -> None:
    """Raise InputError if a run that a flag names was trained on other data than this one.

    Args:
        config: Config.
        data: the fingerprint of this run's data.
        where: they are.
    """
    for path in (config.round_0_from, config.masks_from, *config.repel_runs):
        if path:
            provenance.check(RunDir(path).path, data, where)


def _of_same_network(config: Config, flag: str, path: str) -> RunDir:
    run = RunDir(path)
    theirs = run.config()
    for name in ("model", "dataset"):
        if theirs[name] != getattr(config, name):
            raise InputError(
                f"--{flag}={path}: expected a run with --{name}={getattr(config, name)}. "
                f"Received: {theirs[name]}"
            )
    return run


def _check_round_0(config: Config) -> None:
    path = config.round_0_from
    other = RunDir(path)
    differ = differences(other.config(), config, how=False)
    lines = [
        f"--{name}: {old} there, {new} here"
        for name, (old, new) in differ.items()
        if name not in LATER
    ]
    if lines:
        raise InputError(
            f"--round_0_from={path}: expected a run whose round 0 is that of this one. "
            f"{'; '.join(lines)}"
        )
    if not other.finished_rounds():
        raise InputError(f"--round_0_from={path}: expected a run with a finished round 0.")


def take_round_0(config: Config, run: RunDir, rounds: "PruningRounds") -> None:
    """Save the round 0 of --round_0_from as this run's, with its rewind points.

    Args:
        config: Config.
        run: an open RunDir without a round.
        rounds: PruningRounds of the run: the threshold in the row is that of its own pruning.

    Raises:
        InputError: the other round is damaged, or has no squared gradients where this run is
            repelled with them.
    """
    other = RunDir(config.round_0_from)
    masks, initial, final = other.masks(0), other.initial(0), other.final(0)
    weighted = config.repel and config.repel_weighting == "saliency"
    after, threshold = rounds.prune(0, masks, lambda: initial, final)
    for step in rewind_points.steps(other.path):
        rewind_points.save(run.path, step, rewind_points.read(other.path, step) or {})
    row = other.metrics()[0] | {"threshold": threshold.removed, "smallest_kept": threshold.kept}
    run.save_round(
        0,
        masks=masks,
        initial=initial,
        final=final,
        history=other.history(0),
        metrics=row,
        squared_gradients=other.squared_gradients(0) if weighted else None,
        next_masks=after,
    )
    run.log(f"round 0 was taken from {other.path}")
