"""The sample that a run's criteria are computed on."""

import types

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf.training import feeds, network


def sample(labels, classes, *, size=10, monkeypatch=None, limit=None):
    """(labels, places in the split, examples read) of the sample of a split with these labels."""
    read = []

    def batches():
        for first in range(0, len(labels), size):
            part = labels[first : first + size]
            read.extend(part)
            places = np.arange(first, first + len(part))
            yield tf.constant(places, tf.int32), tf.constant(part, tf.int32)

    feed = types.SimpleNamespace(train_batches=batches)
    directory = types.SimpleNamespace(classes=classes)
    of = network.EngineNetwork(types.SimpleNamespace(feed=feed, directory=directory), None)
    if limit:
        monkeypatch.setattr(network, "EXAMPLES_READ", limit)
        monkeypatch.setattr(network, "READ_PER_CLASS", 1)
    places, found = of._sample()
    return found.numpy(), places.numpy(), len(read)


def first_of_each(labels, classes, among):
    rows = [np.flatnonzero(labels[:among] == c)[:10] for c in range(classes)]
    return np.sort(np.concatenate(rows))


def test_a_sample_with_all_classes_ends_where_the_last_one_is_complete(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 3, 500)
    found, places, read = sample(labels, 3, monkeypatch=monkeypatch, limit=200)
    assert read < 100
    assert np.bincount(found).tolist() == [10, 10, 10]
    assert np.sort(places).tolist() == first_of_each(labels, 3, 500).tolist()
    assert (labels[places] == found).all()


@pytest.mark.parametrize("rare", [0, 1, 9])
def test_a_rare_class_does_not_read_the_whole_split(rare, monkeypatch):
    labels = np.random.default_rng(0).integers(0, 3, 2000)
    labels[100 : 100 + rare] = 3
    found, places, read = sample(labels, 4, monkeypatch=monkeypatch, limit=205)
    assert read == 210  # the batch in which the limit lies
    assert np.bincount(found, minlength=4).tolist() == [10, 10, 10, rare]
    assert np.sort(places).tolist() == first_of_each(labels, 4, 205).tolist()


def test_the_limit_grows_with_the_classes_and_small_splits_are_read_whole(monkeypatch):
    labels = np.concatenate([np.zeros(300, int), np.full(3, 1)])
    found, _, read = sample(labels, 2)
    assert (read, np.bincount(found).tolist()) == (303, [10, 3])
    monkeypatch.setattr(network, "EXAMPLES_READ", 10)
    _, _, read = sample(np.zeros(900, int), 3)
    assert read == 3 * network.READ_PER_CLASS


def resident(labels, classes):
    """An EngineNetwork of a split with these labels in memory; its images are the places in it."""
    feed = object.__new__(feeds.Resident)
    feed.cluster = types.SimpleNamespace(local=lambda array: array)
    feed.train = (tf.range(len(labels)), tf.constant(labels, tf.int32))
    directory = types.SimpleNamespace(classes=classes)
    return network.EngineNetwork(types.SimpleNamespace(feed=feed, directory=directory), None)


def test_data_in_memory_give_the_sample_that_their_batches_give():
    labels = np.random.default_rng(0).integers(0, 300, 4000)
    labels[labels == 7] = 8  # a class without examples
    places, found = resident(labels, 300)._sample()
    expected, rows, _ = sample(labels, 300, size=feeds.EVALUATION_BATCH)
    assert places.numpy().tolist() == rows.tolist()
    assert found.numpy().tolist() == expected.tolist()
    assert found.dtype == tf.int32


def test_a_class_at_the_end_of_data_in_memory_is_found(monkeypatch):
    monkeypatch.setattr(network, "EXAMPLES_READ", 100)
    _, found = resident(np.repeat([0, 1, 2], 500), 3)._sample()
    assert np.bincount(found).tolist() == [10, 10, 10]


def test_the_limit_names_the_classes_that_it_cuts(monkeypatch, capsys):
    sample(np.repeat([0, 1, 2], [300, 4, 600]), 3)
    assert capsys.readouterr().err == ""  # read to its end, there are no more
    sample(np.repeat([0, 1, 2, 3], 300), 4, monkeypatch=monkeypatch, limit=305)
    (line,) = capsys.readouterr().err.splitlines()
    assert "classes 1, 2, 3:" in line
