"""Transplanted masks and cyclic training: further trainings of a run as controls."""

import numpy as np
import pytest

from lottery_tf import imp
from lottery_tf.analysis import cyclic, transplant
from lottery_tf.analysis.alignment import find, permute
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.retraining import Retrainings
from lottery_tf.errors import InputError
from lottery_tf.models.lenet import lenet
from lottery_tf.pruning import apply_masks, remaining
from lottery_tf.runs.files import parse_csv, parse_npz
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.engine import Engine
from tests.made_runs import make_run


@pytest.fixture(scope="module")
def network():
    return lenet((2, 2, 1), 3, initializer="kaiming_uniform")


def test_a_mask_that_was_permuted_with_its_network_comes_back(network):
    generator, symmetries = np.random.default_rng(0), find(network)
    dense = {v.path: generator.normal(size=v.shape) for v in network.trainable_variables}
    own = {
        path: generator.random(array.shape) < 0.3
        for path, array in dense.items()
        if path.endswith("kernel")
    }
    groups = {g for axes in symmetries.values() for axis in axes for g in axis or () if not g.fixed}
    order = {group: generator.permutation(group.size) for group in groups}
    solutions = dense, permute(symmetries, dense, order)
    others = permute(symmetries, own, order)
    masks = transplant.masks_of(symmetries, solutions, own, others, generator)
    assert tuple(masks) == transplant.MASKS
    for path, mask in own.items():
        np.testing.assert_array_equal(masks["permuted"][path], mask)
        np.testing.assert_array_equal(masks["unpermuted"][path], others[path])
        assert masks["random"][path].sum() == mask.sum()
    first = next(iter(own))
    assert (others[first] != own[first]).any()
    assert (masks["random"][first] != own[first]).any()


def test_runs_that_do_not_go_together_are_refused(config):
    path = config().run_dir
    run = make_run(config(run_dir=f"{path}_0"))
    same = make_run(config(run_dir=f"{path}_1"))
    reinit = make_run(config(run_dir=f"{path}_2", reset="reinit", init_seed=1))
    with pytest.raises(InputError, match=r"--other_run.*--init_seed=0"):
        transplant.of_masks(run, same)
    with pytest.raises(InputError, match=r"--reset=init"):
        transplant.of_masks(reinit, run)
    with pytest.raises(InputError, match=r"--replicates.* 0"):
        transplant.of_masks(run, reinit, replicates=0)
    with pytest.raises(InputError, match=r"--other_run"):
        transplant.MEASURE({"": [run]}).report(Output())
    with pytest.raises(InputError, match=r"--reset=init"):
        cyclic.of_masks(reinit)
    with pytest.raises(InputError, match=r"--cycles.* 0"):
        cyclic.of_masks(run, cycles=0)
    for once_from in (0.1, 1.0):
        with pytest.raises(InputError, match=rf"--once_from.* {once_from}"):
            cyclic.of_masks(run, at_rounds=["1"], once_from=once_from)
    with pytest.raises(InputError, match=r"--once_from.*--cycles.* 1"):
        cyclic.of_masks(run, at_rounds=["1"], once_from=0.9, cycles=1)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Runs of the digits of two initializations, of three rounds."""
    from tests.conftest import ROOT, Config

    runs = []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp("runs") / f"seed_{seed}"
        options = {"batch_size": 32, "epochs": 2, "rounds": 3, "prune_fraction": 0.5}
        imp.main(Config(run_dir=str(path), data_dir=str(ROOT / "data"), seed=seed, **options))
        runs.append(RunDir(path))
    return runs


@pytest.mark.ci
def test_a_transplanted_mask_is_trained_from_the_others_start(two_runs, monkeypatch):
    target, source = two_runs
    measure = transplant.MEASURE({"": [target]}, other=source, at_rounds=["2"])
    ((rows, _),) = measure.report(Output())
    assert [row["mask"] for row in rows] == list(transplant.MASKS)
    own = target.metrics()[2]
    assert (rows[0]["test_accuracy"], rows[0]["overlap"]) == (own["test_accuracy"], 1)
    assert [row["density"] for row in rows] == [pytest.approx(own["density"])] * 4
    trained = target.path / "copies/round_02_seed_1_unpermuted_init_data_seed_0/trained/final.npz"
    final = parse_npz(trained.read_bytes())
    for path, mask in source.masks(2).items():
        assert not final[path][~mask].any()
    monkeypatch.setattr(Engine, "train", None)
    assert len(transplant.of_masks(target, source, at_rounds=["2"])) == 4  # of the copies there


@pytest.mark.ci
def test_each_cycle_starts_where_the_last_one_ended(two_runs, monkeypatch):
    run, seen = two_runs[0], {}
    train = Retrainings.train

    def remember(self, name, training):
        seen[name] = training, train(self, name, training)
        return seen[name][1]

    monkeypatch.setattr(Retrainings, "train", remember)
    ((rows, _),) = cyclic.MEASURE({"": [run]}, at_rounds=["1"]).report(Output())
    assert [(row["mask"], row["cycle"]) for row in rows] == [
        ("ticket", 1), ("ticket", 2), ("random", 1), ("random", 2)
    ]  # fmt: skip
    first, second = (seen[f"round_01_ticket_cycle_{cycle:02d}"] for cycle in (1, 2))
    for path, mask in run.masks(1).items():
        np.testing.assert_array_equal(first[0].start[path], np.where(mask, run.initial(0)[path], 0))
        np.testing.assert_array_equal(second[0].start[path], first[1][0][path])
        np.testing.assert_array_equal(second[0].masks[path], mask)
    assert (first[0].noise.round, second[0].noise.round) == (0, 1)
    assert rows[1]["test_accuracy"] == second[1][1][-1]["test_accuracy"]
    table = parse_csv((run.path / "analysis/cyclic.csv").read_bytes())
    assert [row["test_accuracy"] for row in table] == [row["test_accuracy"] for row in rows]


@pytest.mark.ci
def test_a_random_mask_is_pruned_once_before_its_last_cycle(config, monkeypatch):
    run_config = config(rounds=3, epochs=1, train_examples=200, prune_fraction=0.5)
    imp.main(run_config)
    run, seen = RunDir(run_config.run_dir), []

    def remember(self, name, training):
        seen.append((name, training))
        generator = np.random.default_rng(len(seen))
        weights = {p: generator.normal(size=a.shape) for p, a in training.start.items()}
        return apply_masks(weights, training.masks), [{"test_accuracy": len(seen) / 10}]

    monkeypatch.setattr(Retrainings, "train", remember)
    rows = cyclic.of_masks(run, at_rounds=["2"], cycles=3, once_from=0.5)
    once = [row for row in rows if row["mask"] == cyclic.PRUNED_ONCE]
    assert [row["density"] for row in once] == [0.5, 0.5, 0.25]
    assert [row["test_accuracy"] for row in once] == [0.7, 0.8, 0.9]
    names, trainings = zip(*seen[6:], strict=True)
    assert names == tuple(f"round_02_once_from_0.5_cycle_0{cycle}" for cycle in (1, 2, 3))
    first, second, last = trainings
    assert first.masks is second.masks
    ticket = run.masks(2)
    for path, mask in ticket.items():
        if not first.masks[path].all():  # the other layers have more than twice the weights
            assert np.count_nonzero(first.masks[path]) >= 2 * np.count_nonzero(mask)
        assert not (last.masks[path] & ~first.masks[path]).any()
    kept, cut = ([np.abs(w) for w in _weights(last, first, which)] for which in (True, False))
    assert min(map(np.min, kept)) >= max(map(np.max, cut))  # by magnitude, over all layers
    assert remaining(last.masks) == remaining(ticket)


def _weights(last, first, survives):
    generator = np.random.default_rng(8)  # those that the second cycle ended with
    weights = {path: generator.normal(size=array.shape) for path, array in first.start.items()}
    places = {p: first.masks[p] & (mask == survives) for p, mask in last.masks.items()}
    return [weights[path][place] for path, place in places.items() if place.any()]


@pytest.mark.ci
def test_cycles_of_a_rewound_run_start_where_its_rounds_do(config, monkeypatch):
    run_config = config(rounds=2, epochs=1, train_examples=200, reset="rewind", rewind_to="3")
    imp.main(run_config)
    run, seen = RunDir(run_config.run_dir), []

    def remember(self, name, training):
        seen.append(training)
        return training.start, [{"test_accuracy": 0.5}]

    monkeypatch.setattr(Retrainings, "train", remember)
    cyclic.of_masks(run, at_rounds=["1"], cycles=2)
    assert [training.first for training in seen] == [3] * 4
    for path, value in run.initial(1).items():
        np.testing.assert_array_equal(seen[0].start[path], value)
