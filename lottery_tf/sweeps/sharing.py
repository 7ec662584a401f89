"""Trains a round 0 that runs of a study have in common only once. NumPy only.

The borrower gets the lender's files. They are what its own run would have written, byte for byte,
but for the threshold in metrics.csv and the next masks where it prunes by other rules.
"""

import dataclasses
import shutil
from collections.abc import Hashable

from lottery_tf import datasets, pruning
from lottery_tf.config import Config
from lottery_tf.config.constraints import rewind_step
from lottery_tf.pruning import collapse
from lottery_tf.pruning.criteria import needs
from lottery_tf.runs import checkpoints, contents, draws, files, provenance, rewind_points
from lottery_tf.runs.rundir import METRICS, RunDir
from lottery_tf.sweeps.grid import Point

# Flags that neither the weights of round 0 nor its files depend on; every other flag counts.
LATER = frozenset(
    {
        *("reset", "rounds", "short_epochs", "finetune_epochs", "shuffle_masks"),
        *("early_stop", "connected_error", "full_rounds"),
        *("prune_begin", "prune_end", "prune_frequency", "prune_schedule"),
        *("regrow", "drop_fraction"),
        "rewind_to",  # names a rewind point, which is lent only if it is the borrower's own
        "seed",  # --init_seed and --data_seed hold what it stands for
        *("run_dir", "checkpoint_minutes", "worker_timeout"),
    }
)
# Flags that only the threshold in the row of round 0 depends on.
OF_PRUNING = frozenset(
    {
        *("criterion", "scope", "keep_dense", "layer_fractions", "min_layer_weights"),
        *("structure", "structure_pool", "evidence_bn"),
        *("prune_at", "prune_fraction", "prune_iterations", "density", "densities", "masks_from"),
    }
)
# Round 0 has no earlier optima, but for those of other runs.
OF_REPULSION = frozenset({"repel", "repel_from", "repel_scope", "repel_runs"})
IN_FILES = {"trained", "initial"}  # what a criterion may need that the files of a round hold


def key(config: Config) -> Hashable:
    """Return a value that is equal for runs whose round 0 is the same work."""
    left_out = LATER
    if not (config.repel and config.repel_runs):
        left_out |= OF_REPULSION
    if not config.policy.prunes_after(0) or _prunes_by_files(config):
        left_out |= OF_PRUNING
    values = dataclasses.asdict(config)
    return tuple((name, value) for name, value in values.items() if name not in left_out)


def _prunes_by_files(config: Config) -> bool:
    """Return whether files say what is pruned: structures and outputs are of its layers."""
    is_of_network = config.policy.structure is not None or config.scope == "output"
    return needs(config.criterion) <= IN_FILES and not is_of_network


def lend(lender: Point, borrower: Point) -> bool:
    """Put the lender's round 0 into the borrower's run; return whether the borrower has one now.

    A borrower that has a round keeps it.

    Raises:
        InputError: the lender's files are damaged, or the borrower's run is in use, was made with
            other flags or cannot be written.
    """
    other, run, config = RunDir(lender.directory), RunDir(borrower.directory), borrower.config
    if config.policy.prunes_after(0) and "uniform" in needs(config.criterion):
        begun = (run.path / "config.json").exists()  # a run that begins draws as this version does
        if draws.are_old(other.path) != (begun and draws.are_old(run.path)):
            return False  # the runs draw different random scores
    own = _own_files(other, config)
    if own is None:
        return False
    with run.open(config) as finished:
        if finished:
            return True
        checkpoints.forget(run.path)  # of a round 0 that it began
        rewind_points.forget(run.path)
        for name in (provenance.DATA, "environment.json"):
            if (other.path / name).exists():
                shutil.copyfile(other.path / name, run.path / name)
        steps = datasets.find(config).splits["train"].examples // config.batch_size
        step = rewind_step(config, steps)
        if weights := rewind_points.read(other.path, step):
            rewind_points.save(run.path, step, weights)
        source = other.round_path(0)
        lent = {name: source / name for name in files.names(source)} | own
        files.write_directory(run.round_path(0), {n: f for n, f in lent.items() if f is not None})
        run.log(f"round 0 was taken from {other.path}")
    return True


def _own_files(other: RunDir, config: Config) -> dict[str, bytes | None] | None:
    """Return the files of a borrower's round 0 that differ from those of the other run.

    Returns:
        {metrics.csv or next_masks.npy: content, or None where it has no such file}; None where the
        pruning would remove nothing, so that the run would end there.
    """
    (row,) = other.table(0, METRICS)
    if collapse.NOT_PRUNABLE in collapse.parse(row.get("collapse")):
        return None
    threshold, next_masks = pruning.Threshold(float("nan"), float("nan")), None
    if config.policy.prunes_after(0):
        if not _prunes_by_files(config):
            return {}  # the lender prunes by the same rules: see `key`
        masks, initial = other.masks(0), other.initial(0)
        pruned, threshold = pruning.prune(
            other.final(0),
            masks,
            config.policy.to_density((config.policy.targets or (None,))[0]),
            criterion=config.criterion,
            iterations=config.prune_iterations,
            initial=lambda masks: initial,
        )
        if pruning.remaining(pruned) == pruning.remaining(masks):
            return None
        next_masks = contents.format_next_masks(masks, pruned)
    row |= {"threshold": threshold.removed, "smallest_kept": threshold.kept}
    found = {METRICS: files.format_csv([row]), contents.NEXT_MASKS: next_masks}
    paths = [path for name in found if (path := other.round_path(0) / name).exists()]
    theirs = {path.name: path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if content != theirs.get(name)}
