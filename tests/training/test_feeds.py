"""Examples in memory and streamed from shards are the same, and each worker reads its own."""

import dataclasses

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training import feeds
from lottery_tf.training.training import Training
from tests.conftest import ROOT
from tests.training.test_engine import assert_equal, make


@pytest.fixture
def on_shards(config, sharded):
    def make(**flags):
        return config(data_dir=str(sharded), batch_size=8, shuffle_window=16, **flags)

    return make


def test_resident_and_streaming_see_the_same_examples(on_shards):
    config = on_shards()
    directory = datasets.find(config)
    images, _ = tfrecords.read(directory, "train")
    lengths = directory.splits["train"].lengths
    for epoch in range(3):
        noise = Noise(5, 1)
        order = visit_order(lengths, noise, epoch, window=16)[2]
        for first_step in (0, 1, 3):
            stream = tfrecords.stream(
                directory,
                directory.splits["train"],
                noise,
                epoch=epoch,
                window=16,
                batch_size=8,
                steps=(first_step, 6),
            )
            streamed = [batch for batch, _, _ in stream.as_numpy_iterator()]
            expected = images[order[first_step * 8 : 48]].reshape(-1, 8, *images.shape[1:])
            assert np.array_equal(streamed, expected)


@pytest.mark.ci
@pytest.mark.parametrize("jit_compile", ["on", pytest.param("off", marks=pytest.mark.slow)])
def test_resident_training_equals_streaming(on_shards, jit_compile):
    results = []
    for resident in ("on", "off"):
        engine, weights = make(on_shards(resident=resident, jit_compile=jit_compile))
        results.append(engine.train(Training(weights, engine.dense_masks(), Noise(0, 0))))
    (resident, resident_history), (streamed, streamed_history) = results
    assert_equal(resident, streamed)
    for one, other in zip(resident_history, streamed_history, strict=True):
        for column in ("step", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert one[column] == other[column]


def test_workers_decode_the_rows_of_the_whole_between_them(config, sharded):
    directory = datasets.find(config(data_dir=str(sharded)))
    split = directory.splits["train"]

    def batches(part, steps=(0, None)):
        stream = tfrecords.stream(
            directory, split, Noise(3, 1), epoch=2, window=16, batch_size=8, part=part, steps=steps
        )
        return [tuple(array.numpy() for array in batch) for batch in stream]

    whole = batches((0, 1))
    assert len(whole) == 6
    for steps in ((0, None), (4, 6)):
        halves = [batches((index, 2), steps) for index in (0, 1)]
        for expected, *parts in zip(whole[steps[0] :], *halves, strict=True):
            for arrays in zip(expected, *parts, strict=True):
                assert np.array_equal(arrays[0], np.concatenate(arrays[1:]))


def test_shard_files_gives_each_worker_its_own(config, sharded):
    class TwoWorkers:
        def __init__(self, worker):
            self.worker, self.workers, self.replicas_here = worker, 2, 1
            self.replica_here = 0

    config = config(data_dir=str(sharded), batch_size=8, resident="off", shard_files=True)
    directory = datasets.find(config)
    for worker in (0, 1):
        feed = feeds.Streamed(config, directory, TwoWorkers(worker))
        assert feed.steps_per_epoch == 3  # the second one has 13 examples, 4 for each batch
        batches = [labels.numpy() for _, labels, _ in feed.start_epoch(Noise(0, 0), 0, 0)]
        assert [len(labels) for labels in batches] == [4] * 3
        assert feed.split.shards == directory.splits["train"].shards[worker::2]
    config = dataclasses.replace(config, data_dir=str(ROOT / "data"))
    with pytest.raises(InputError, match=r"--shard_files .* 2 workers.* 1\."):
        feeds.Streamed(config, datasets.find(config), TwoWorkers(0))
    resident = dataclasses.replace(config, resident="auto")
    with pytest.raises(InputError, match=r"--shard_files .*--resident=off"):
        feeds.make(resident, datasets.find(resident), TwoWorkers(0))
