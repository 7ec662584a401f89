import numpy as np
import pytest

from lottery_tf.datasets.order import visit_order
from lottery_tf.pruning.streams import Noise


def examples(lengths=(4, 6, 2), *, seed=0, round=0, epoch=0, window=100):
    return visit_order(lengths, Noise(seed, round), epoch, window=window)[2].tolist()


@pytest.mark.parametrize("window", [1, 3, 5, 12, 100])
def test_every_example_comes_once(window):
    assert sorted(examples(window=window)) == list(range(12))


def test_the_order_is_a_function_of_seed_round_and_epoch():
    first = examples([50])
    assert first == examples([50])
    for other in ({"seed": 1}, {"round": 1}, {"epoch": 1}):
        assert examples([50], **other) != first


def test_windows_of_one_record_read_whole_shards():
    lengths, starts = [4, 6, 2], [0, 4, 10]
    shards, _, order = visit_order(lengths, Noise(3, 0), 0, window=1)
    expected = [starts[shard] + i for shard in shards for i in range(lengths[shard])]
    assert order.tolist() == expected


def test_records_stay_inside_their_window():
    _, positions, _ = visit_order([100, 50], Noise(0, 0), 0, window=40)
    assert (positions // 40 == np.arange(150) // 40).all()
    assert (positions != np.arange(150)).any()
