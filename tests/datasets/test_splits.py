"""Which examples are trained on, and which tested on, as the flags say."""

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.splits import hold_out
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from tests.synthetic import IMAGE, LABEL, numbered, store


@pytest.fixture(scope="module")
def three_splits(tmp_path_factory):
    """A dataset of the splits train, extra and holdout, of 20, 5 and 4 numbered images."""
    splits = {"train": numbered(20), "extra": numbered(5, 20), "holdout": numbered(4, 25)}
    return store(tmp_path_factory.mktemp("splits"), {"image": IMAGE, "label": LABEL}, splits)


def numbers(directory, split):
    """The numbers of a split's images, in memory, and streamed."""
    images, _ = tfrecords.read(directory, split)
    batches = tfrecords.stream_in_order(directory, split, batch_size=3).as_numpy_iterator()
    streamed = np.concatenate([some for some, _ in batches])
    np.testing.assert_array_equal(images, streamed)
    tfrecords.check(directory, split)
    return images[:, 0, 0, 0].tolist()


def test_splits_are_named_and_joined(three_splits, config):
    flags = {"dataset": str(three_splits), "train_split": "train+extra", "test_split": "holdout"}
    directory = datasets.find(config(**flags))
    assert numbers(directory, "train") == list(range(25))
    assert numbers(directory, "test") == list(range(25, 29))
    directory = datasets.find(config(**flags, train_examples=22))
    assert numbers(directory, "train") == list(range(22))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "test split. Found: train, extra, holdout. .* --test_fraction=0.1"),
        ({"test_split": "tset"}, "tset split. Found: train, extra, holdout. .*--test_split"),
        (
            {"train_split": "train[:80%]", "test_split": "holdout"},
            r"train\[:80%\] split.*--train_split",
        ),
        ({"train_split": "train+train", "test_split": "holdout"}, r"--train_split: .*train\+train"),
        ({"train_split": "", "test_split": "holdout"}, "--train_split"),
        ({"test_split": "extra+train"}, ": train .*--test_split"),
        ({"test_fraction": 0.001}, "--test_fraction=0.001 .* 20 .* 0 "),
        ({"test_fraction": 0.999}, "--test_fraction=0.999 .* 0 .* 20 "),
    ],
)
def test_splits_that_cannot_be_chosen_are_refused(three_splits, config, flags, words):
    with pytest.raises(InputError, match=words):
        datasets.find(config(dataset=str(three_splits), **flags))


def test_fractions_that_cannot_be_are_refused(three_splits, config):
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match="--test_fraction"):
            config(test_fraction=fraction)
    with pytest.raises(InputError, match=r"--test_fraction=0\.1 --test_split=extra"):
        config(test_fraction=0.1, test_split="extra")


@pytest.mark.ci
def test_a_part_that_is_held_out_is_the_same_for_all_seeds_and_of_every_shard(sharded, config):
    flags = {"data_dir": str(sharded), "test_fraction": 0.3}  # of 50 images in three shards
    found = [numbers(datasets.find(config(seed=seed, **flags)), "test") for seed in (0, 1)]
    assert found[0] == found[1]
    directory = datasets.find(config(**flags))
    train, test = numbers(directory, "train"), numbers(directory, "test")
    assert (len(train), len(test)) == (35, 15)
    assert sorted(train + test) == list(range(50))
    assert train == sorted(train)  # in the order of the shards
    assert {number % 10 for number in test} > {0, 9}  # not every tenth
    assert [shard.used for shard in directory.splits["test"].shards] == [
        sum(start <= number < stop for number in test)
        for start, stop in ((0, 20), (20, 33), (33, 50))
    ]
    first = datasets.find(config(train_examples=17, **flags))
    assert numbers(first, "train") == train[:17]
    assert numbers(first, "test") == test


def test_the_draw_of_what_is_held_out_never_changes(sharded, config):
    split = datasets.find(config(data_dir=str(sharded))).splits["train"]
    _, test = hold_out(split, 0.1)
    assert [shard.chosen.tolist() for shard in test.shards] == [[9, 11], [6], [1, 2]]


def test_training_streams_the_rest_of_what_is_held_out(sharded, config):
    directory = datasets.find(config(data_dir=str(sharded), test_fraction=0.3))
    split, noise = directory.splits["train"], Noise(0, 0)
    options = {"epoch": 1, "window": 8, "batch_size": 7}
    stream = tfrecords.stream(directory, split, noise, **options).as_numpy_iterator()
    streamed = [image[0, 0, 0] for images, _, _ in stream for image in images]
    order = tfrecords.visit_order(split.lengths, noise, 1, window=8)[2]
    images, _ = tfrecords.read(directory, "train")
    np.testing.assert_array_equal(streamed, images[order][:, 0, 0, 0])
