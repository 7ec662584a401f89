"""Checks labels and the names of classes, before a dataset is written. NumPy only."""

import numpy as np

from lottery_tf.datasets.layout import MOST_CLASSES
from lottery_tf.datasets.raw import CIFAR_CLASSES
from lottery_tf.errors import InputError
from lottery_tf.method import Array

KNOWN = {"mnist": tuple("0123456789"), **CIFAR_CLASSES}  # the names that are published


def check_labels(what: str, labels: Array, classes: int = MOST_CLASSES) -> None:
    """Raises InputError, with the row, at a label that is not from 0 to classes - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"{what}: expected labels from 0 to {classes - 1}. Row {wrong[0]} has "
            f"{labels[wrong[0]]} ({len(wrong)} rows are out of range)."
        )


def default_classes(what: str, known: str | None, labels: Array) -> tuple[str, ...]:
    """The names of the labels 0, 1, … if none are given: the published ones, or the numbers.

    Args:
        known: a dataset whose classes have known names.
        labels: of the training split.
    """
    if known in KNOWN:
        return KNOWN[known]
    return check_classes(what, tuple(str(label) for label in range(labels.max() + 1)), known)


def check_classes(what: str, classes: tuple[str, ...], known: str | None) -> tuple[str, ...]:
    """The names of classes; InputError if they cannot be names of a dataset's labels."""
    if len(classes) < 2:
        raise InputError(f"{what}: expected two classes or more. Found: {len(classes)}")
    odd = [name for name in classes if not name.strip() or not name.isprintable()]
    if odd or len(set(classes)) < len(classes):
        twice = [name for name in classes if classes.count(name) > 1]
        raise InputError(
            f"{what}: expected a printable name of its own for each class. Found: "
            f"{(odd or twice)[0]!a}{'' if odd else ' twice'}"
        )
    if known in KNOWN and len(classes) != len(KNOWN[known]):
        raise InputError(
            f"{what}: expected the {len(KNOWN[known])} classes of {known}. Found: {len(classes)}"
        )
    return classes
