"""Codes arrays as bytes near their entropy. NumPy writes them, a TensorFlow graph reads them.

A pruned kernel is stored as its survivors and their places. The survivors' bytes are sorted by
significance (all first bytes, all second bytes, …), because the exponents of floats are alike and
their last bits are not. The places are gaps of a byte each, or a bitmap. Every part is deflated,
and `tf.io.decode_compressed` inflates it at load, so loading needs only TensorFlow.
"""

import dataclasses
import math
import zlib

import numpy as np
import tensorflow as tf

from lottery_tf.pruning import Array

LONGEST_GAP = 255  # a byte of this value places nothing: the gap goes on in the next one


@dataclasses.dataclass(frozen=True)
class Coded:
    """An array as deflated bytes."""

    shape: tuple[int, ...]
    dtype: str
    places: str  # "all" (every element is stored), "gaps" or "bitmap"
    parts: tuple[bytes, ...]  # zlib streams: of the elements, and of their places unless all

    @property
    def bytes(self) -> int:
        return sum(map(len, self.parts))


def encode(array: Array) -> Coded:
    """Return the shortest code of an array of floats, integers or bools; negative zeros may go."""
    flat = np.ascontiguousarray(array).reshape(-1)
    whole = _coded(array, "all", flat)
    if flat.all():
        return whole
    return min(whole, encode_sparse(array), key=lambda coded: coded.bytes)


def encode_sparse(array: Array) -> Coded:
    """Return the shorter code of an array's nonzero elements and their places."""
    flat = np.ascontiguousarray(array).reshape(-1)
    places = np.flatnonzero(flat)
    codes = (
        _coded(array, "gaps", flat[places], gaps(places)),
        _coded(array, "bitmap", flat[places], np.packbits(flat != 0)),
    )
    return min(codes, key=lambda coded: coded.bytes)


def _coded(array: Array, places: str, elements: Array, where: Array | None = None) -> Coded:
    """Return elements, sorted by the significance of their bytes, and places as zlib streams."""
    planes = elements.view(np.uint8).reshape(len(elements), array.dtype.itemsize).T
    parts = [planes] if where is None else [planes, where]
    deflated = tuple(zlib.compress(np.ascontiguousarray(part).tobytes(), 9) for part in parts)
    return Coded(array.shape, array.dtype.name, places, deflated)


def gaps(places: Array) -> Array:
    """Return the gaps before ascending places, a byte each: how many elements are left out.

    In a gap of LONGEST_GAP or more, a byte of LONGEST_GAP stands for that many, and the next bytes
    for the rest.
    """
    left_out = np.diff(places, prepend=-1) - 1
    longest, rest = np.divmod(left_out, LONGEST_GAP)
    ends = np.cumsum(longest + 1) - 1  # where the rest of each gap stands
    codes = np.full(int(ends[-1]) + 1 if len(ends) else 0, LONGEST_GAP, np.uint8)
    codes[ends] = rest
    return codes


def entropy_bound(count: int, size: int, itemsize: int = 4) -> float:
    """Return the bytes of `count` survivors of `size` weights, and of their places at best.

    The elements count itemsize bytes each, the places size * H(density) / 8, H in bits.
    """
    density = count / size if size else 0.0
    odds = [p for p in (density, 1 - density) if p > 0]
    return count * itemsize + size * -sum(p * math.log2(p) for p in odds) / 8


def decode(places: str, dtype: str, parts: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return the array of a Coded, in a graph or eagerly, from a string tensor of its parts."""
    planes, kind = _inflate(parts[0]), tf.dtypes.as_dtype(dtype)
    if kind == tf.bool:
        elements = planes > 0
    elif kind.size == 1:
        elements = tf.bitcast(planes, kind)
    else:
        # Not tf.transpose: for bytes it writes a line of complaint on some processors.
        by_plane = tf.unstack(tf.reshape(planes, (kind.size, tf.size(planes) // kind.size)))
        elements = tf.bitcast(tf.stack(by_plane, axis=1), kind)
    if places == "all":
        return tf.reshape(elements, shape)
    where = decode_places(places, parts[1])
    flat = tf.scatter_nd(where[:, tf.newaxis], elements, [tf.reduce_prod(shape)])
    return tf.reshape(flat, shape)


def decode_places(places: str, part: tf.Tensor) -> tf.Tensor:
    """Return the places of the stored elements in the flat array, int64 (count,)."""
    codes = _inflate(part)
    if places == "gaps":
        codes = tf.cast(codes, tf.int64)
        ends = codes < LONGEST_GAP
        return tf.boolean_mask(tf.cumsum(codes + tf.cast(ends, tf.int64)) - 1, ends)
    shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
    bits = tf.bitwise.right_shift(codes[:, tf.newaxis], shifts) & 1
    return tf.where(tf.reshape(bits, [-1]) > 0)[:, 0]


def _inflate(part: tf.Tensor) -> tf.Tensor:
    """Return the bytes of a zlib stream, uint8."""
    return tf.io.decode_raw(tf.io.decode_compressed(part, "ZLIB"), tf.uint8)
