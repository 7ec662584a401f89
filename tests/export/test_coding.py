import math
import zlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from lottery_tf.export import coding

# TensorFlow computes with subnormal numbers as with zeros, on any weights.
FLOATS = st.floats(width=32, allow_nan=False, allow_subnormal=False)
DTYPES = ["float32", "float16", "float64", "int32", "int64", "uint8", "uint32", "bool"]


def decoded(coded):
    parts = tf.constant(list(coded.parts))
    shape = tf.constant(coded.shape, tf.int64)
    return coding.decode(coded.places, coded.dtype, parts, shape).numpy()


def sparse(shape, density, dtype="float32", seed=0):
    generator = np.random.default_rng(seed)
    array = generator.normal(size=shape) * 100
    return (array * (generator.random(shape) < density)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0, 0.003, 0.1, 0.7, 1])
def test_what_is_coded_is_read_in_tensorflow_bit_for_bit(dtype, density):
    array = sparse((30, 5, 7), density, dtype)
    found = decoded(coding.encode(array))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array)


@pytest.mark.parametrize("places", ["gaps", "bitmap"])
def test_each_code_of_places_is_read(places):
    # Gaps of 0, of a byte but one, of a whole byte, and of several.
    array = np.zeros(5000, np.float32)
    array[[0, 1, 255, 256, 512, 767, 1023, 4999]] = np.arange(1, 9)
    found = np.flatnonzero(array)
    code = coding.gaps(found) if places == "gaps" else np.packbits(array != 0)
    part = tf.constant(zlib.compress(code.tobytes()))
    assert coding.decode_places(places, part).numpy().tolist() == found.tolist()


def test_gaps_by_eye():
    assert coding.gaps(np.array([0, 1, 4])).tolist() == [0, 0, 2]
    assert coding.gaps(np.array([255])).tolist() == [255, 0]
    assert coding.gaps(np.array([511])).tolist() == [255, 255, 1]
    assert coding.gaps(np.array([], int)).tolist() == []


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.lists(st.just(0.0) | FLOATS, max_size=2000))
def test_any_floats_come_back(values):
    array = np.array(values, np.float32)
    assert np.array_equal(decoded(coding.encode(array)), array)


def test_no_code_is_longer_than_the_array_deflated():
    array = sparse((400,), 1.0)
    array[7] = 0
    coded = coding.encode(array)
    assert coded.bytes <= sum(map(len, coding._coded(array, "all", array).parts))


@pytest.mark.parametrize("density", [0.5, 0.107, 0.035, 0.0115])
def test_the_size_of_normal_weights_is_near_the_entropy(density):
    array = np.random.default_rng(0).normal(size=(784, 300)).astype(np.float32)
    array *= np.random.default_rng(1).random(array.shape) < density
    bound = coding.entropy_bound(np.count_nonzero(array), array.size)
    assert coding.encode(array).bytes < bound


def test_the_entropy_bound_by_hand():
    assert coding.entropy_bound(1, 2) == 4 + 2 / 8  # a bit for each place
    assert coding.entropy_bound(8, 8) == 32
    assert coding.entropy_bound(0, 8) == 0
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert coding.entropy_bound(25, 100, 2) == pytest.approx(50 + 100 * quarter / 8)
