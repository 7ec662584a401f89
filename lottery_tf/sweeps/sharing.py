"""Round 0, which many runs of a study have in common, is trained once. NumPy only.

The borrower gets the lender's files, as its own run would have written them: the same bytes, but
for the threshold in metrics.csv and the next masks where it prunes by other rules.
"""

import dataclasses
import shutil
from collections.abc import Hashable

from lottery_tf import datasets, pruning
from lottery_tf.config import Config
from lottery_tf.pruning import collapse
from lottery_tf.pruning.criteria import needs
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.runs import checkpoints, contents, draws, files, provenance, rewind_points
from lottery_tf.runs.rundir import METRICS, RunDir
from lottery_tf.sweeps.grid import Point

# What neither the weights of round 0 nor its files depend on; every other flag counts.
LATER = frozenset({
    "run_dir", "seed",  # init_seed and data_seed say what it stands for
    "rounds", "reset", "finetune_epochs", "shuffle_masks", "early_stop", "connected_error",
    "short_epochs", "prune_schedule", "prune_begin", "prune_end", "prune_frequency",
    "checkpoint_minutes", "worker_timeout",
    "rewind_to",  # names a rewind point, which is lent only if it is the borrower's own
})  # fmt: skip
# On which the threshold in round 0's row depends alone.
OF_PRUNING = frozenset({
    "prune_fraction", "criterion", "scope", "prune_at", "density", "densities", "prune_iterations",
    "layer_fractions", "keep_dense", "min_layer_weights", "masks_from",
})  # fmt: skip
# Round 0 has no earlier optima, but for those of other runs.
OF_REPULSION = frozenset({"repel", "repel_from", "repel_scope", "repel_runs"})
FOUND_IN_FILES = {"trained", "initial"}  # the evidence of a criterion that a round's files hold


def key(config: Config) -> Hashable:
    """What is equal of two runs whose round 0 is the same work."""
    left_out = LATER
    if not (config.repel and config.repel_runs):
        left_out |= OF_REPULSION
    if not config.policy.prunes_after(0) or needs(config.criterion) <= FOUND_IN_FILES:
        left_out |= OF_PRUNING
    values = dataclasses.asdict(config)
    return tuple((name, value) for name, value in values.items() if name not in left_out)


def lend(lender: Point, borrower: Point) -> bool:
    """Puts the lender's round 0, which is finished, into the borrower's run; whether it could.

    It does nothing where the borrower has a round.

    Raises:
        InputError: the lender's files are damaged, or the borrower's run is in use, was made with
            other flags or cannot be written.
    """
    other, run = RunDir(lender.directory), RunDir(borrower.directory)
    if _draw_differently(other, run, borrower.config):
        return False
    own = _own_files(other, borrower.config)
    if own is None:
        return False
    with run.open(borrower.config) as finished:
        if finished:
            return True
        checkpoints.forget(run.path)  # of a round 0 that it began
        rewind_points.forget(run.path)
        for name in (provenance.DATA, "environment.json"):
            if (other.path / name).exists():
                shutil.copyfile(other.path / name, run.path / name)
        step = _rewind_step(borrower.config)
        if weights := rewind_points.read(other.path, step):
            rewind_points.save(run.path, step, weights)
        source = other.round_path(0)
        lent = {name: source / name for name in files.names(source)} | own
        files.write_directory(run.round_path(0), {n: f for n, f in lent.items() if f is not None})
        run.log(f"round 0 was taken from {other.path}")
    return True


def _draw_differently(other, run, config):
    """Whether the pruning after round 0 takes random scores, and the runs draw different ones."""
    if not config.policy.prunes_after(0) or "uniform" not in needs(config.criterion):
        return False
    begun = (run.path / "config.json").exists()  # a run that begins draws as this version does
    return draws.are_old(other.path) != (begun and draws.are_old(run.path))


def _own_files(other: RunDir, config: Config) -> dict[str, bytes | None] | None:
    """{file: content} of what a run that takes the round 0 of another one has of its own.

    That is its metrics.csv and next_masks.npy, where they are not the other's; the content is None
    where it has no such file. None in place of all where the pruning would remove nothing, so that
    the run would end there.
    """
    (row,) = other.table(0, METRICS)
    if collapse.NOT_PRUNABLE in collapse.parse(row.get("collapse")):
        return None
    threshold, own = pruning.Threshold(float("nan"), float("nan")), None
    if config.policy.prunes_after(0):
        if not needs(config.criterion) <= FOUND_IN_FILES:
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
        own = contents.format_next_masks(masks, pruned)
    metrics = files.format_csv(
        [row | {"threshold": threshold.removed, "smallest_kept": threshold.kept}]
    )
    found = {METRICS: metrics, contents.NEXT_MASKS: own}
    return {name: content for name, content in found.items() if content != _bytes(other, name)}


def _bytes(other, name):
    """The bytes of a file of the other's round 0; None if it has no such file."""
    path = other.round_path(0) / name
    return path.read_bytes() if path.exists() else None


def _rewind_step(config: Config) -> int:
    """The step of --rewind_to; 0 without."""
    steps = datasets.find(config).splits["train"].examples // config.batch_size
    return parse_step("--rewind_to", config.rewind_to or "0", steps)
