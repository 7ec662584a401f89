"""The masks that a pruning decides are saved with its round, and not decided again on resume."""

import hashlib
import shutil

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import imp, masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.masking.gradients import Gradients
from lottery_tf.runs import checkpoints, contents, decided_masks, files
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import sharing
from lottery_tf.sweeps.grid import Point
from lottery_tf.training import engine
from tests.launching import npz_bytes
from tests.made_runs import make_run

NAME = contents.NEXT_MASKS


def same(ours, expected):
    assert list(ours) == list(expected)
    for path in ours:
        np.testing.assert_array_equal(ours[path], expected[path], err_msg=path)


@pytest.fixture
def experiment(config, sharded, tmp_path):
    """A function of the name of a run, and flags: its RunDir when imp.main is done."""

    def run(name, **flags):
        tiny = {
            "run_dir": str(tmp_path / name), "data_dir": str(sharded), "batch_size": 16,
            "model": "tests.networks:linear", "prune_fraction": 0.3, "jit_compile": "off",
            "criterion": "snip",
        }  # fmt: skip
        assert imp.main(config(**(tiny | flags))) == 0
        return RunDir(tmp_path / name)

    return run


@pytest.fixture
def another_machine(monkeypatch):
    """A function that plants gradients and Hessian products of other values."""

    def plant():
        def drawn(self, weights, masks, **_):
            generator = np.random.default_rng(99)
            return {path: generator.normal(size=mask.shape) for path, mask in masks.items()}

        monkeypatch.setattr(Gradients, "mean", drawn)
        monkeypatch.setattr(Gradients, "hessian_product", drawn)

    return plant


def drop(run, round):
    """Makes of a round what an older version wrote."""
    directory = run.round_path(round)
    (directory / NAME).unlink()
    lines = (directory / files.SUMS).read_text().splitlines(keepends=True)
    (directory / files.SUMS).write_text("".join(line for line in lines if NAME not in line))


def change(run, round, content):
    """Gives a round other next masks, with their checksum."""
    directory = run.round_path(round)
    before = hashlib.sha256((directory / NAME).read_bytes()).hexdigest()
    (directory / NAME).write_bytes(content)
    sums, after = (directory / files.SUMS).read_text(), hashlib.sha256(content).hexdigest()
    (directory / files.SUMS).write_text(sums.replace(before, after))


def test_bits_hold_masks_of_any_shape():
    generator = np.random.default_rng(0)
    shapes = {"b/kernel": (3, 5), "a/kernel": (2, 1, 7)}
    masks = {path: generator.random(shape) < 0.7 for path, shape in shapes.items()}
    after = {path: mask & (generator.random(mask.shape) < 0.5) for path, mask in masks.items()}
    content = contents.format_next_masks(masks, dict(reversed(after.items())))
    same(contents.parse_next_masks(content, masks), after)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3, np.uint8), "the bits of 900 weights.*uint8"),
        (np.zeros(900, bool), "the bits of 900 weights.*bool"),
        (np.full(113, 255, np.uint8), "lie in those of the round; in a/kernel"),
        (None, "expected an npy file"),
    ],
)
def test_next_masks_are_checked(array, words, config):
    run = make_run(config(), rounds=2)
    masks = run.masks(1)
    options = {"initial": run.initial(1), "final": run.final(1), "history": [{"epoch": 1}]}
    row = {"round": 2, "density": 0.8}
    run.save_round(2, masks=masks, metrics=row, next_masks=masks, **options)
    same(run.next_masks(2), masks)
    assert run.next_masks(1) is None
    change(run, 2, b"no array" if array is None else files.format_npy(array))
    with pytest.raises(InputError, match=rf"round_02/{NAME} is no file of a round: .*{words}"):
        run.next_masks(2)
    (run.round_path(2) / NAME).unlink()
    with pytest.raises(InputError, match=rf"Cannot read .*{NAME}"):
        run.next_masks(2)


@pytest.mark.ci
@pytest.mark.parametrize("criterion", ["snip", "grasp", "taylor"])
def test_a_run_that_grows_prunes_as_its_metrics_say(criterion, experiment, another_machine):
    experiment("grown", rounds=2, criterion=criterion)
    whole = experiment("whole", rounds=3, criterion=criterion)
    another_machine()
    run = experiment("grown", rounds=3, criterion=criterion)
    same(run.masks(2), run.next_masks(1))
    for name, content in npz_bytes(whole.path).items():
        assert npz_bytes(run.path)[name] == content, name
    assert run.next_masks(2)  # the last round of a run decides, too: its row has the threshold


@pytest.mark.ci
def test_a_run_of_an_older_version_decides_again(experiment):
    run = experiment("grown", rounds=2)
    drop(run, 1)
    assert run.next_masks(1) is None
    run = experiment("grown", rounds=3)
    whole = experiment("whole", rounds=3)
    assert npz_bytes(run.path) == npz_bytes(whole.path)


def test_what_is_not_pruned_after_a_round_has_no_next_masks(experiment):
    run = experiment("run", rounds=2, densities=(0.5,))
    assert run.next_masks(0)
    assert run.next_masks(1) is None


@pytest.mark.ci
def test_a_round_that_is_pruned_before_it_trains_goes_on_under_its_masks(
    experiment, another_machine, monkeypatch
):
    flags = {"rounds": 3, "prune_at": "init", "densities": (0.5, 0.25), "checkpoint_minutes": 1e-9,
             "epochs": 3}  # fmt: skip
    whole = experiment("whole", **flags)
    assert not (whole.path / decided_masks.NAME).exists()
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)
    save = checkpoints.save

    def save_and_die(path, round, checkpoint):
        save(path, round, checkpoint)
        if round == 2:
            raise RuntimeError("killed")

    monkeypatch.setattr(checkpoints, "save", save_and_die)
    with pytest.raises(RuntimeError, match="killed"):
        experiment("killed", **flags)
    monkeypatch.setattr(checkpoints, "save", save)
    another_machine()
    run = experiment("killed", **flags)
    assert "round 2 continues at step" in (run.path / "log.txt").read_text()
    assert npz_bytes(run.path) == npz_bytes(whole.path)
    assert not (run.path / decided_masks.NAME).exists()


def test_masks_decided_before_a_round_are_checked(tmp_path):
    masks = {"a/kernel": np.arange(6).reshape(2, 3) > 1}
    assert decided_masks.read(tmp_path, 3, masks) is None
    for wrong, words in (
        ({"b/kernel": masks["a/kernel"]}, "kernels of this network"),
        ({"a/kernel": ~masks["a/kernel"]}, "lie in those that were pruned"),
    ):
        decided_masks.save(tmp_path, 3, wrong)
        with pytest.raises(InputError, match=words):
            decided_masks.read(tmp_path, 3, masks)
        decided_masks.forget(tmp_path)
    decided_masks.save(tmp_path, 3, masks)
    same(decided_masks.read(tmp_path, 3, masks), masks)


def test_a_borrowed_round_0_has_the_next_masks_of_the_borrower(config, tmp_path):
    lender = config(run_dir=str(tmp_path / "lender"))
    made = make_run(lender, rounds=1)
    shutil.rmtree(made.round_path(0))
    masks = {path: np.ones(shape, bool) for path, shape in
             {"a/kernel": (20, 30), "b/kernel": (30, 10)}.items()}  # fmt: skip
    generator = np.random.default_rng(0)
    weights = {path: generator.normal(size=m.shape).astype(np.float32) for path, m in masks.items()}
    after, _ = pruning.prune(weights, masks, 0.2)
    made.save_round(0, masks=masks, initial=weights, final=weights, history=[{"epoch": 1}],
                    metrics={"round": 0, "density": 1.0}, next_masks=after)  # fmt: skip
    for name, flags, part in (
        ("half", {"prune_fraction": 0.5}, 0.5),
        ("same", {"reset": "reinit"}, 0.8),
        ("none", {"masks_from": "elsewhere"}, None),
    ):
        borrower = config(run_dir=str(tmp_path / name), **flags)
        points = [Point("p", RunDir(c.run_dir).path, {}, c, ()) for c in (lender, borrower)]
        assert sharing.lend(*points)
        found = RunDir(borrower.run_dir).next_masks(0)
        assert (found if part is None else pruning.density(found)) == part
        files.check(RunDir(borrower.run_dir).round_path(0) / "final.npz")


DATA = np.random.default_rng(0).random((12, 4)).astype(np.float32), np.arange(12) % 3


def around_fit(directory, rounds):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)]
    model = lottery_tf.masked(keras.Sequential(layers))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    options = {"criterion": "taylor", "data": DATA, "directory": directory}
    for round in lottery_tf.rounds(model, rounds, 0.3, **options):
        model.fit(*DATA, batch_size=4, shuffle=False, verbose=0, callbacks=round.callbacks)
    return masking.get_masks(model)


@pytest.mark.ci
def test_rounds_around_fit_go_on_under_the_masks_that_were_decided(tmp_path, another_machine):
    around_fit(tmp_path / "grown", 2)
    shutil.copytree(tmp_path / "grown", tmp_path / "old")
    expected = around_fit(tmp_path / "whole", 3)
    another_machine()
    found = around_fit(tmp_path / "grown", 3)
    same(dict(zip(expected, found.values(), strict=True)), expected)
    same(RunDir(tmp_path / "grown").masks(2), RunDir(tmp_path / "whole").next_masks(1))
    drop(RunDir(tmp_path / "old"), 1)
    other = around_fit(tmp_path / "old", 3)
    assert any((a != b).any() for a, b in zip(other.values(), expected.values(), strict=True))
