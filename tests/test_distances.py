import numpy as np
import pytest

from lottery_tf.analysis import distances


def test_angles_that_can_be_seen():
    ones = {"k": np.array([True, True, True])}
    east, north = {"k": np.array([1, 0, 0])}, {"k": np.array([0, 2, 0])}
    between = {"k": np.array([3, 3, 0])}
    assert distances.angular(east, north, (ones, ones)) == pytest.approx(1)
    assert distances.angular(east, between, (ones, ones)) == pytest.approx(0.5)
    assert distances.angular(east, {"k": -east["k"]}, (ones, ones)) == pytest.approx(2)
    assert distances.angular(between, between, (ones, ones)) == pytest.approx(0, abs=1e-7)


def test_only_what_is_alive_in_both_counts():
    some, other = {"k": np.array([1, 5, 0])}, {"k": np.array([1, 0, 9])}
    masks = {"k": np.array([True, True, False])}, {"k": np.array([True, False, True])}
    assert distances.angular(some, other, masks) == pytest.approx(0)
    nothing = {"k": np.array([False, False, False])}
    assert np.isnan(distances.angular(some, other, (nothing, nothing)))


class Run:
    """Rounds whose weights turn by a third of a right angle each."""

    def metrics(self):
        return [{"round": r, "density": 0.8**r, "test_accuracy": 0.9} for r in range(4)]

    def final(self, round):
        angle = round * np.pi / 6
        return {"k": np.array([np.cos(angle), np.sin(angle)])}

    def masks(self, round):
        return {"k": np.array([True, True])}


def test_distances_to_earlier_rounds():
    rows = distances.to_earlier(Run())
    assert np.isnan(rows[0]["distance_1"])
    assert np.isnan(rows[1]["distance_2"])
    assert [row["distance_1"] for row in rows[1:]] == pytest.approx([1 / 3] * 3)
    assert [row["distance_2"] for row in rows[2:]] == pytest.approx([2 / 3] * 2)
