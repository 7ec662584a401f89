"""Random streams: no two of them draw the same numbers, and a key stays what it was."""

import itertools
import shutil

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import imp, pruning
from lottery_tf.analysis.runs import config_of
from lottery_tf.config import Config
from lottery_tf.config.constraints import check_new
from lottery_tf.errors import InputError
from lottery_tf.pruning import streams
from lottery_tf.rundir import RunDir
from lottery_tf.runs import draws

SEEDS = (0, 1, 2, 5, 9, 2**32 - 1)
FEW = range(12)
MASKS = {"kernel": np.ones(4, bool)}


def first(generator):
    return tuple(generator.bit_generator.random_raw(2).tolist())


def noise(seed, round, worker=0):
    return streams.Noise(seed, round, worker)


# stream: (its first draws as a function of a key, the keys).
STREAMS = {
    "order": (lambda s, r, e: first(noise(s, r).order(e)), (SEEDS, FEW, FEW)),
    "augmentation": (lambda s, r, e: first(noise(s, r).augmentation(e)), (SEEDS, FEW, FEW)),
    "dropout": (
        lambda s, r, f, i: first(noise(s, r).dropout(f, i)),
        (SEEDS, FEW, (0, 1, 2, 5, 100), (0, 1, 2, 3)),
    ),
    "order of a worker": (lambda s, r, e, w: first(noise(s, r, w).order(e)),
                          (SEEDS, FEW, FEW, (1, 2))),
    "augmentation of a worker": (lambda s, r, e, w: first(noise(s, r, w).augmentation(e)),
                                 (SEEDS, FEW, FEW, (1, 2))),
    "random masks": (lambda s, r, i: first(streams.random_masks(s, r, i)), (SEEDS, FEW, FEW)),
    "shuffled weights": (lambda s, r: first(streams.shuffled_weights(s, r)), (SEEDS, FEW)),
    "shuffled masks": (lambda s: first(streams.shuffled_masks(s)), (SEEDS,)),
    "held out": (lambda: first(streams.held_out()), ()),
    "random scores": (lambda s, r: first(streams.stream(streams.RANDOM_SCORES, s, r)),
                      (SEEDS, FEW)),
    "a future stream": (lambda s, r, e: first(streams.stream(10, s, r, e)), (SEEDS, FEW, FEW)),
}  # fmt: skip
# Their keys are those of older runs, which must repeat.
SHARED = {("order", "shuffled weights"), ("order", "shuffled masks")}


def test_no_two_streams_draw_the_same():
    found, both = {}, set()
    for name, (draw, keys) in STREAMS.items():
        for key in itertools.product(*keys):
            drawn = draw(*key)
            if drawn in found:
                other, other_key = found[drawn]
                assert other != name, f"{name} draws the same for {key} and {other_key}"
                both.add((other, name))
            else:
                found[drawn] = name, key
    assert both == SHARED


def test_the_scores_of_a_run_are_those_of_their_stream():
    drawn = streams.uniform(3, 5, MASKS)["kernel"]
    np.testing.assert_array_equal(drawn, streams.stream(9, 3, 5).random(4))
    expected = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(9, 5))).random(4)
    np.testing.assert_array_equal(drawn, expected)
    for epoch in FEW:
        assert not np.array_equal(drawn, noise(3, 5).order(epoch).random(4))


@pytest.mark.parametrize("name", ["seed", "init_seed", "data_seed"])
@pytest.mark.parametrize("value", [2**32, 2**32 + 5, 2**70, -1])
def test_seeds_out_of_bounds_are_refused(name, value):
    with pytest.raises(InputError, match=f"--{name}.*{value}"):
        check_new(Config(**{name: value}))
    check_new(Config(**{name: 2**32 - 1}))


@pytest.mark.parametrize("name", ["seed", "init_seed", "data_seed"])
def test_large_seeds_that_older_versions_recorded_are_read(name, tmp_path):
    config = Config(**{name: 2**32 + 5}, run_dir=str(tmp_path))
    (tmp_path / "config.json").write_text(config.to_json())
    run = RunDir(tmp_path)
    imp.check(config, run)
    assert getattr(config_of(run), name) == 2**32 + 5


@pytest.mark.parametrize("value", [2**32, -1, 1.5, True])
def test_seeds_of_the_python_functions_are_bounded_too(value):
    model = network()
    with pytest.raises(InputError, match="seed"):
        lottery_tf.prune(model, 0.5, seed=value)
    with pytest.raises(InputError, match="seed"):
        next(lottery_tf.rounds(model, 2, 0.5, seed=value))


def network():
    image = keras.Input((6,))
    return lottery_tf.masked(keras.Model(image, keras.layers.Dense(8, name="dense")(image)))


def masks_of(run_dir, round):
    return RunDir(run_dir).masks(round)


def turns(directory, count):
    list(lottery_tf.rounds(network(), count, 0.5, criterion="random", seed=4, directory=directory))


def expected_masks(draw, dense, count, fraction=0.5, seed=4):
    masks = dense
    for round in range(count):
        masks, _ = pruning.prune(
            {}, masks, fraction, criterion="random",
            uniform=lambda held, round=round: draw(seed, round, held),
        )  # fmt: skip
    return masks


def test_rounds_that_an_older_version_began_go_on_with_its_stream(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(draws, "record", lambda *_: None)
        turns(tmp_path / "old", 2)
    shutil.copytree(tmp_path / "old", tmp_path / "resumed")
    turns(tmp_path / "resumed", 4)
    turns(tmp_path / "new", 4)
    assert not (tmp_path / "resumed" / draws.NAME).exists()
    dense = masks_of(tmp_path / "new", 0)
    for name, draw in (("resumed", streams.old_uniform), ("new", streams.uniform)):
        for round in range(4):
            found = masks_of(tmp_path / name, round)
            expected = expected_masks(draw, dense, round)
            assert all(np.array_equal(found[path], expected[path]) for path in dense), name


def test_only_runs_that_draw_scores_say_which_stream(tmp_path):
    list(lottery_tf.rounds(network(), 1, directory=tmp_path / "magnitude"))
    assert not (tmp_path / "magnitude" / draws.NAME).exists()


@pytest.mark.ci
@pytest.mark.parametrize("prune_at", ["round", "train"])
def test_a_run_that_an_older_version_began_goes_on_with_its_stream(
    config, tmp_path, monkeypatch, prune_at
):
    flags = {"criterion": "random", "epochs": 1, "init_seed": 4, "data_seed": 1}
    if prune_at == "train":
        flags |= {"prune_at": "train", "densities": (0.5, 0.25), "prune_frequency": 1}
    else:
        flags |= {"prune_fraction": 0.5}
    with monkeypatch.context() as older:
        older.setattr(draws, "record", lambda *_: None)
        for name, rounds in (("whole", 3), ("part", 2)):
            assert imp.main(config(**flags, rounds=rounds, run_dir=str(tmp_path / name))) == 0
    for name in ("part", "new"):
        assert imp.main(config(**flags, rounds=3, run_dir=str(tmp_path / name))) == 0
    whole, part, new = (masks_of(tmp_path / name, 2) for name in ("whole", "part", "new"))
    assert all(np.array_equal(whole[path], part[path]) for path in whole)
    assert not all(np.array_equal(whole[path], new[path]) for path in whole)
    if prune_at == "round":
        dense = masks_of(tmp_path / "new", 0)
        expected = expected_masks(streams.old_uniform, dense, 2)
        assert all(np.array_equal(whole[path], expected[path]) for path in whole)
