"""--validation_fraction, and the barrier of --early_stop=connected on what it holds out."""

import json

import numpy as np
import pytest

from lottery_tf import datasets, imp
from lottery_tf.analysis import path_evaluator
from lottery_tf.config.constraints import check_given
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir

CONNECTED = {
    "early_stop": "connected",
    "epochs": 2,
    "short_epochs": 1,
    "batch_size": 16,
    "model": "tests.networks:linear",
    "jit_compile": "off",
}


@pytest.fixture
def splits(config, sharded):
    """A function of flags -> {split: image sums}, of the 50 images in three shards."""

    def read(**flags):
        directory = datasets.find(config(data_dir=str(sharded), **flags))
        return {
            name: tfrecords.read(directory, name)[0].reshape(split.examples, -1).sum(1).tolist()
            for name, split in directory.splits.items()
        }

    return read


def test_the_examples_are_parted_once_for_every_seed(splits):
    whole, parted = splits(), splits(validation_fraction=0.2)
    assert parted["test"] == whole["test"]
    assert len(parted["validation"]) == 10
    assert sorted(parted["train"] + parted["validation"]) == sorted(whole["train"])
    assert splits(validation_fraction=0.2, seed=7) == parted
    assert parted["validation"] != whole["train"][:10]


def test_it_parts_what_the_test_fraction_leaves_and_train_examples_come_last(splits):
    tested = splits(test_fraction=0.3)
    parted = splits(test_fraction=0.3, validation_fraction=0.2, train_examples=5)
    assert parted["test"] == tested["test"]
    assert len(parted["validation"]) == 7
    assert len(parted["train"]) == 5
    assert not set(parted["validation"]) & {*parted["train"], *parted["test"]}
    assert set(parted["validation"]) | set(parted["train"]) <= set(tested["train"])


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_part_without_examples_is_refused(splits, fraction):
    with pytest.raises(InputError, match=f"--validation_fraction={fraction} .*50"):
        splits(validation_fraction=fraction)


def test_it_does_nothing_without_early_stop(config):
    with pytest.raises(InputError, match=r"--validation_fraction .*--early_stop=connected"):
        check_given(config(validation_fraction=0.1), {"validation_fraction"})


def test_a_new_run_needs_held_out_examples(config):
    with pytest.raises(InputError, match=r"--early_stop=connected .*--validation_fraction=0\.1"):
        imp.main(config(**CONNECTED))


@pytest.mark.ci
@pytest.mark.parametrize("resident", ["on", "off"])
def test_the_barrier_is_that_of_the_held_out_examples(resident, config, sharded, monkeypatch):
    monkeypatch.setattr("lottery_tf.pruning.collapse.chance", lambda *_: -1.0)  # images are noise
    made, evaluate = [], path_evaluator.PathEvaluator.evaluate

    def watched(self, *ends):
        made.append(self)
        return evaluate(self, *ends)

    monkeypatch.setattr(path_evaluator.PathEvaluator, "evaluate", watched)
    flags = config(
        **CONNECTED, data_dir=str(sharded), validation_fraction=0.4, rounds=4, resident=resident
    )
    assert imp.main(flags) == 0
    assert [one.split for one in made] == ["validation"] * 3
    assert len(set(map(id, made))) == 1  # compiled once for all rounds
    directory = datasets.find(flags)
    images, _ = tfrecords.read(directory, "validation")
    batches = list(made[0]._first("validation", 10_000))
    assert np.array_equal(np.concatenate([b for b, _ in batches]), images)
    run = RunDir(flags.run_dir)
    errors = [row["error"] for row in evaluate(made[0], run.final(0), run.final(1))]
    barrier = max(errors) - (errors[0] + errors[-1]) / 2
    assert run.metrics()[1]["barrier"] == pytest.approx(barrier)


@pytest.mark.ci
def test_a_run_of_an_older_version_goes_on_with_training_examples(config, sharded, monkeypatch):
    flags = {**CONNECTED, "data_dir": str(sharded)}
    with monkeypatch.context() as older:
        older.setattr(imp, "check_new", lambda config: None)
        assert imp.main(config(**flags, rounds=2)) == 0
    path = RunDir(config().run_dir).path / "config.json"
    recorded = json.loads(path.read_text())
    del recorded["validation_fraction"]
    path.write_text(json.dumps(recorded))
    made, init = [], path_evaluator.PathEvaluator.__init__

    def watched(self, engine, **options):
        made.append(options["split"])
        init(self, engine, **options)

    monkeypatch.setattr(path_evaluator.PathEvaluator, "__init__", watched)
    assert imp.main(config(**flags, rounds=3)) == 0
    assert made == ["train"]
