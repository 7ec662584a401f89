"""Round 0 that runs of a study have in common."""

import dataclasses
import hashlib
import os

import numpy as np
import pytest

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.loop import round_0
from lottery_tf.runs import draws, files, rewind_points
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import sharing
from lottery_tf.sweeps.grid import Point
from tests.made_runs import make_run

# The other half of sharing's tables: a flag that is new must be put into one of them.
TOUCHES = {
    *("model", "initializer", "shortcut", "bn_affine", "init_seed", "data_seed"),
    *("dataset", "train_examples", "image_size", "augment", "data_dir", "shuffle_window"),
    *("train_split", "test_split", "test_fraction", "validation_fraction"),
    *("image_key", "label_key", "epochs", "batch_size", "accumulate_steps", "mixed_precision"),
    *("optimizer", "learning_rate", "schedule", "lr_drops", "lr_drop_factor", "warmup_epochs"),
    *("momentum", "weight_decay", "weight_decay_mode", "weight_decay_on"),
    *("round_0_from", "repel_weighting", "strategy", "cpu_devices", "sync_bn", "shard_files"),
    *("deterministic", "jit_compile", "resident"),
}
TABLES = (TOUCHES, sharing.LATER, sharing.OF_PRUNING, sharing.OF_REPULSION)


def test_every_flag_touches_round_0_or_not():
    flags = [field.name for field in dataclasses.fields(Config)]
    assert sorted(flags) == sorted(name for table in TABLES for name in table)


def test_what_is_later_is_later_for_round_0_from_too():
    later = sharing.LATER | sharing.OF_PRUNING | sharing.OF_REPULSION
    assert later - round_0.LATER == {"run_dir", "seed", "checkpoint_minutes", "worker_timeout"}
    assert round_0.LATER - later == {"round_0_from", "repel_weighting"}


@pytest.mark.parametrize(
    ("change", "is_shared"),
    [
        ({"reset": "reinit"}, True),
        ({"rounds": 9, "rewind_to": "3"}, True),
        ({"prune_fraction": 0.5}, True),
        ({"criterion": "movement", "scope": "layer"}, True),
        ({"criterion": "taylor"}, False),  # whose evidence the files of a round do not hold
        ({"prune_at": "init", "density": 0.1, "criterion": "snip"}, True),
        ({"repel": 2.0, "repel_scope": "layer"}, True),
        ({"repel_runs": ("a",)}, True),  # without --repel they do nothing
        ({"repel": 2.0, "repel_runs": ("a",)}, False),
        ({"repel_weighting": "saliency"}, False),
        ({"batch_size": 61}, False),
        ({"warmup_epochs": 1.0}, False),
        ({"data_seed": 1}, False),
        ({"init_seed": 1}, False),
        ({"jit_compile": "off"}, False),
    ],
)
def test_runs_share_round_0_if_all_is_equal_that_it_depends_on(change, is_shared):
    keys = [sharing.key(config) for config in (Config(), Config(**change))]
    assert (keys[0] == keys[1]) == is_shared


def test_a_seed_counts_as_what_it_stands_for():
    one, other = Config(seed=3), Config(seed=4, init_seed=3, data_seed=3)
    assert sharing.key(one) == sharing.key(other)


def test_runs_repelled_from_one_run_share_only_with_their_like():
    runs = {"repel": 2.0, "repel_runs": ("a",)}
    assert sharing.key(Config(**runs)) == sharing.key(Config(**runs, reset="reinit"))
    assert sharing.key(Config(**runs)) != sharing.key(Config(**runs, repel_scope="layer"))


@pytest.fixture
def points(config, tmp_path):
    """A function of the borrower's flags -> (a point with a round, one without)."""

    def make(rounds=1, **changes):
        lender = config(run_dir=str(tmp_path / "lender"))
        borrower = config(run_dir=str(tmp_path / "borrower"), **changes)
        make_run(lender, rounds=rounds)
        (tmp_path / "lender" / "data.json").write_text('{"train": 1}')
        (tmp_path / "lender" / "environment.json").write_text('{"Python": "3"}')
        return [Point("p", RunDir(c.run_dir).path, {}, c, ()) for c in (lender, borrower)]

    return make


def threshold(run, config):
    """The largest of the weights of round 0 that --prune_fraction removes."""
    weights = np.concatenate(
        [np.abs(run.final(0)[path][mask]) for path, mask in run.masks(0).items()]
    )
    return np.sort(weights)[round(config.prune_fraction * len(weights)) - 1]


def test_a_borrower_has_the_lenders_files_and_its_own_config(points):
    lender, borrower = points(reset="reinit", prune_fraction=0.5)
    assert sharing.lend(lender, borrower)
    one, other = RunDir(lender.directory), RunDir(borrower.directory)
    assert other.config()["reset"] == "reinit"
    for name in ("masks.npz", "initial.npz", "final.npz", "history.csv"):
        paths = [run.round_path(0) / name for run in (one, other)]
        assert os.path.samefile(*paths)
        files.check(paths[1])
    for name in ("data.json", "environment.json"):
        assert (other.path / name).read_bytes() == (one.path / name).read_bytes()
    assert "round 0 was taken from" in (other.path / "log.txt").read_text()
    (row,) = other.metrics()
    assert row["threshold"] == pytest.approx(threshold(one, borrower.config), abs=1e-7)
    assert row["test_accuracy"] == one.metrics()[0]["test_accuracy"]


def test_with_the_same_pruning_metrics_are_a_link_too(points):
    lender, borrower = points(reset="reinit")
    run = RunDir(lender.directory)
    row = sharing._own_files(run, borrower.config)[
        "metrics.csv"
    ]  # made-up runs have no true threshold
    (run.round_path(0) / "metrics.csv").write_bytes(row)
    sums = run.round_path(0) / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith("metrics.csv")]
    lines.append(f"{hashlib.sha256(row).hexdigest()}  metrics.csv")
    sums.write_text("\n".join(lines) + "\n")
    assert sharing.lend(lender, borrower)
    name = "round_00/metrics.csv"
    assert os.path.samefile(lender.directory / name, borrower.directory / name)


def test_masks_of_others_leave_no_threshold(points):
    lender, borrower = points(masks_from="elsewhere")
    assert sharing.lend(lender, borrower)
    (row,) = RunDir(borrower.directory).metrics()
    assert np.isnan(row["threshold"])


def test_a_damaged_round_is_not_lent(points):
    lender, borrower = points()
    path = lender.directory / "round_00" / "history.csv"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"history\.csv"):
        sharing.lend(lender, borrower)
    assert RunDir(borrower.directory).finished_rounds() == 0
    assert not list(borrower.directory.glob(".*.tmp"))


def test_a_file_is_copied_where_there_are_no_links(points, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    lender, borrower = points()
    assert sharing.lend(lender, borrower)
    paths = [point.directory / "round_00" / "final.npz" for point in (lender, borrower)]
    assert not os.path.samefile(*paths)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_only_the_borrowers_own_rewind_point_is_lent(points):
    lender, borrower = points(reset="rewind", rewind_to="2")
    for step in (1, 2):
        weights = {"a/kernel": np.full((1, 1), step, np.float32)}
        rewind_points.save(lender.directory, step, weights)
    assert sharing.lend(lender, borrower)
    assert rewind_points.steps(borrower.directory) == [2]


def test_a_run_with_rounds_keeps_them(points):
    lender, borrower = points(epochs=2, reset="reinit")
    make_run(borrower.config, rounds=2, seed=5)
    before = RunDir(borrower.directory).final(0)
    assert sharing.lend(lender, borrower)
    after = RunDir(borrower.directory).final(0)
    assert all(np.array_equal(before[path], after[path]) for path in before)


@pytest.mark.parametrize(
    ("criterion", "lender_is_old", "begun", "is_lent"),
    [
        ("random", True, False, False),
        ("random", False, False, True),
        ("random", True, True, True),  # the borrower is old, too
        ("random", False, True, False),
        ("magnitude", True, False, True),
    ],
)
def test_a_run_with_other_random_scores_trains_its_own_round(
    points, config, criterion, lender_is_old, begun, is_lent
):
    lender, borrower = points(criterion=criterion)
    if not lender_is_old:
        draws.record(lender.directory, criterion)
    if begun:
        make_run(borrower.config, rounds=0)
    assert sharing.lend(lender, borrower) == is_lent
    assert RunDir(borrower.directory).finished_rounds() == is_lent
