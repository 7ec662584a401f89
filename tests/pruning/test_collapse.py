"""A network that has collapsed is called so, and one that cannot be pruned ends its run."""

import math
import re
import types

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import lottery_tf
from lottery_tf import datasets, imp, masking
from lottery_tf.analysis import barriers, instability, stability
from lottery_tf.analysis.path_evaluator import PathEvaluator
from lottery_tf.config import Config
from lottery_tf.loop.pruning_rounds import Plan, PruningRounds
from lottery_tf.pruning import collapse
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.streams import Noise
from lottery_tf.pruning.top_k import prune
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training
from tests import networks
from tests.conftest import ROOT
from tests.made_runs import make_run

TINY = {"model": "tests.networks:linear", "epochs": 1, "rounds": 40}


def test_chance_is_that_of_a_guess():
    assert collapse.chance(10, 10_000) == pytest.approx(0.1 + 2 * 0.003)
    guesses = np.random.default_rng(0).binomial(450, 0.1, 10_000) / 450
    assert (guesses <= collapse.chance(10, 450)).mean() > 0.95


@pytest.mark.parametrize(
    ("accuracy", "largest_class", "expected"),
    [
        (0.98, 0.12, []),
        (0.105, 0.3, [collapse.AT_CHANCE]),
        (0.30, 1.0, [collapse.ONE_CLASS]),  # where classes are not equally frequent
        (0.09, 1.0, [collapse.ONE_CLASS, collapse.AT_CHANCE]),
        (0.98, math.nan, []),
        (1.0, 1.0, []),  # a test split of one class
    ],
)
def test_what_answers_tell(accuracy, largest_class, expected):
    assert collapse.of_predictions(accuracy, largest_class, 10, 10_000) == expected


def test_what_masks_and_prunings_tell():
    full, empty = np.ones((2, 2), bool), np.zeros(3, bool)
    assert collapse.of_masks({"a/kernel": full, "b/kernel": empty}) == ["no weights in b/kernel"]
    assert collapse.of_masks({"a/kernel": full}) == []
    two = {"a": np.array([True, False, True])}
    trained = {"a": np.array([1.0, 0, 2])}
    assert collapse.of_pruning(two, prune(trained, two, 0.2)[0]) == [collapse.NOT_PRUNABLE]
    assert collapse.of_pruning(two, prune(trained, two, 0.5)[0]) == []
    none = {"a": np.zeros(3, bool)}
    assert collapse.of_pruning(none, prune(trained, none, 0.5)[0]) == [collapse.NOT_PRUNABLE]


def test_a_cell_of_the_column_is_read_back():
    names = ["no weights in a/kernel", collapse.ONE_CLASS]
    assert collapse.parse(collapse.SEPARATOR.join(names)) == names
    assert collapse.parse(math.nan) == collapse.parse(None) == []


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """A run that ended before its last round, and what its command needs to go on."""
    config = Config(
        run_dir=str(tmp_path_factory.mktemp("collapsed") / "run"),
        data_dir=str(ROOT / "data"),
        batch_size=32,
        prune_fraction=0.9,
        **TINY,
    )
    assert imp.main(config) == 0
    return RunDir(config.run_dir), config


@pytest.mark.ci
def test_a_run_that_cannot_be_pruned_ends_and_keeps_its_rounds(collapsed, capfd):
    run, config = collapsed
    remaining = [row["remaining"] for row in run.metrics()]
    assert remaining == [640, 64, 6, 1, 0]
    assert imp.main(config) == 0  # again
    assert len(run.metrics()) == 5
    assert "after round 4" in capfd.readouterr().err
    assert re.search(r"after round 4\b.* 0\.9 .* 0 weights", (run.path / "log.txt").read_text())


@pytest.mark.ci
def test_a_fraction_that_removes_nothing_ends_a_run(config):
    assert imp.main(config(**TINY, prune_fraction=0.34)) == 0
    rows = RunDir(config().run_dir).metrics()
    assert [row["remaining"] for row in rows[-3:]] == [3, 2, 1]
    assert len(rows) < TINY["rounds"]
    assert collapse.NOT_PRUNABLE in collapse.parse(rows[-1]["collapse"])
    assert all(collapse.NOT_PRUNABLE not in collapse.parse(row["collapse"]) for row in rows[:-1])


def test_the_row_the_log_and_tensorboard_tell_where_a_collapse_begins(collapsed):
    run, _ = collapsed
    rows = run.metrics()
    assert math.isnan(rows[0]["collapse"])
    assert rows[0]["test_largest_class"] < 0.5
    last = ["no weights in logits/kernel", collapse.ONE_CLASS, collapse.AT_CHANCE,
            collapse.NOT_PRUNABLE]  # fmt: skip
    assert collapse.parse(rows[-1]["collapse"]) == last
    assert rows[-1]["test_largest_class"] == 1
    log = (run.path / "log.txt").read_text()
    for name in last:
        assert log.count(name) == 1
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    flags = [e.tensor_proto.float_val[0] for e in events.Tensors("round/collapsed")]
    assert flags == [float(isinstance(row["collapse"], str)) for row in rows]
    words = events.Tensors("round/collapse")[-1].tensor_proto.string_val[0].decode()
    assert words == rows[-1]["collapse"]


def test_rows_of_older_versions_are_read_beside_new_ones(config):
    run = make_run(config(), rounds=1)
    weights = run.final(0)
    new = {"round": 1, "density": 1.0, "collapse": collapse.ONE_CLASS}
    run.save_round(1, masks=run.masks(0), initial=weights, final=weights, history=[new],
                   metrics=new)  # fmt: skip
    old, row = run.metrics()
    assert "collapse" not in old
    assert row["collapse"] == collapse.ONE_CLASS
    assert len((run.path / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("flags", [{}, {"strategy": "mirrored", "cpu_devices": 2}])
def test_the_most_frequent_answer_is_counted_on_all_replicas(config, flags, monkeypatch):
    monkeypatch.setattr("lottery_tf.training.feeds.EVALUATION_BATCH", 7)
    config = config(**TINY | flags)
    engine = Engine(config, datasets.find(config), connect(config))
    initialization = engine.initialization
    weights = initialization(0)
    masking.set_weights(engine.network, weights, engine.dense_masks())
    images = next(iter(engine.feed.test_batches()))[0]
    batches = [images for images, _ in engine.feed.test_batches()]
    assert len(images) == 7
    answers = np.concatenate([engine.network(engine.normalise(b)).numpy().argmax(1)
                              for b in batches])  # fmt: skip
    share = np.bincount(answers).max() / len(answers)
    assert engine.evaluator.evaluate()[2] == share < 1
    constant = {path: np.zeros_like(array) for path, array in weights.items()}
    constant["logits/bias"][3] = 1
    masking.set_weights(engine.network, constant, engine.dense_masks())
    assert engine.evaluator.evaluate()[2] == 1


@pytest.mark.ci
def test_points_of_a_path_are_collapsed_where_one_class_is_given_or_chance(config):
    config = config(**TINY | {"jit_compile": "off"})
    engine = Engine(config, datasets.find(config), connect(config))
    initialization = engine.initialization
    start = Training(initialization(0), engine.dense_masks(), Noise(0, 0))
    trained, _ = engine.train(start)
    nothing = {path: np.zeros_like(array) for path, array in trained.items()}
    rows = PathEvaluator(engine, points=3).evaluate(trained, nothing)
    assert [row["collapsed"] for row in rows] == [0, 0, 1]


def test_no_analysis_calls_a_collapsed_network_stable(collapsed):
    run, _ = collapsed
    options = {"points": 3, "computing": {"jit_compile": "off"}}
    rows = instability.of_rounds(run, at_rounds=[0, 4], **options)
    assert [instability.verdict(row) for row in rows] == ["stable", "collapsed"]
    assert rows[1]["instability"] == 0
    first, second = barriers.between_rounds(run, pairs=["0-1", "0-4"], **options)
    assert (first["collapsed"], second["collapsed"]) == (0, 1)


def test_stability_calls_a_collapsed_network_so(collapsed):
    run, _ = collapsed
    rows = stability.of_masks(run, at_rounds=[1, 4], computing={"jit_compile": "off"})
    assert {(row["round"], row["collapsed"]) for row in rows} == {(1, 0), (4, 1)}


def test_a_layer_without_weights_is_collapsed_whatever_the_accuracy():
    row = {"instability": 0.0, "collapsed": 0}
    assert instability.verdict(row) == "stable"
    assert instability.verdict(row | {"collapsed": 1.0}) == "collapsed"
    assert instability.verdict(row | {"collapsed": 1 / 3}) == "stable"  # of the other pairs


def test_rounds_around_the_users_training_end_too():
    keras.utils.set_random_seed(0)
    model = lottery_tf.masked(networks.linear((1, 1, 2), 2))
    with pytest.warns(UserWarning, match=r"after round 3.*0\.3 removes nothing more of 1 weights"):
        turns = [turn.density for turn in lottery_tf.rounds(model, 10, 0.3)]
    assert turns == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.ci
def test_collapsed_rounds_do_not_count_as_connected(config):
    flags = TINY | {"prune_fraction": 0.9, "rounds": 5, "epochs": 2, "jit_compile": "off"}
    imp.main(config(**flags, early_stop="connected", short_epochs=1, validation_fraction=0.1))
    barriers_there = [row["barrier"] for row in RunDir(config().run_dir).metrics()[1:]]
    assert not math.isnan(barriers_there[0])
    assert math.isnan(barriers_there[-1])


@pytest.mark.parametrize(
    ("target", "expected"),
    [(SparsityTarget(0.2), True), (SparsityTarget(density=0.5), False)],
)
def test_only_a_fraction_is_exhausted_not_densities(target, expected):
    masks = {"a": np.ones(3, bool)}
    network = types.SimpleNamespace(prunable=lambda masks: masks)
    rounds = PruningRounds(Plan(3, "init", lambda round: target), network, None, print)
    assert rounds.is_exhausted(0, masks, masks) == expected
    assert not rounds.is_exhausted(0, masks, {"a": np.array([True, True, False])})
