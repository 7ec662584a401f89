"""What tests of masks compare: arrays, masks and weights of two models."""

import numpy as np

from lottery_tf import masking


def equal(some, other):
    return all(np.array_equal(*pair) for pair in zip(some, other, strict=True))


def same_masks(some, other):
    return equal(*(masking.get_masks(model).values() for model in (some, other)))


def same_weights(some, other):
    return equal(*(masking.get_weights(model).values() for model in (some, other)))
