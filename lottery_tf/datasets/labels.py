"""Checks labels and the names of classes, before a dataset is written. NumPy only."""

import itertools
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from lottery_tf.datasets.layout import MOST_CLASSES
from lottery_tf.datasets.raw import CIFAR_CLASSES
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

KNOWN = {"mnist": tuple("0123456789"), **CIFAR_CLASSES}  # the names that are published
SHOWN = 10  # names of classes in a line

Classes = tuple[tuple[str, ...], dict[str, Array]]  # their names, and {split: labels}


def number_classes(parts: dict[str, list[tuple[str, Array]]], names: tuple[str, ...]) -> Classes:
    """Check labels that are numbers; where nothing names them, name them by their numbers.

    Numbers that no image has, as 0 where labels count from 1, would be classes of their own: the
    network would have outputs for them, and the level of chance would be too low. So labels that
    have no names but gaps are replaced by their ranks, and a line says so.

    Args:
        parts: {split: (where they come from, for messages; labels) one after the other}, with the
            split "train".
        names: those of the labels 0, 1, …, if there are any.

    Raises:
        InputError: a label is out of range, or all are the same.
    """
    labels = {split: np.concatenate([some for _, some in of]) for split, of in parts.items()}
    what, train, count = parts["train"][0][0], labels["train"], len(names)
    if not names:
        for where, some in parts["train"]:
            _check_range(where, some, MOST_CLASSES)
        if len(np.unique(train)) < 2:
            raise InputError(f"{what}: expected two classes or more. Found: 1, {train[0]}")
        count = int(train.max()) + 1
    for where, some in itertools.chain(*parts.values()):
        _check_range(where, some, count)
    if names:
        return names, labels
    used = np.unique(np.concatenate([*labels.values()]))
    names = tuple(map(str, used))
    if gaps := count - len(used):
        console.say(
            f"{what}: {gaps} of the numbers 0 to {used[-1]} are the label of no image. The others "
            f"become the classes 0 to {len(used) - 1}, in their order and with their numbers as "
            f"names: {shortened(names)}."
        )
        labels = {split: np.searchsorted(used, some) for split, some in labels.items()}
    return names, labels


def _check_range(what: str, labels: Array, classes: int) -> None:
    """Raise InputError, with the row, at a label that is not from 0 to classes - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"{what}: expected labels from 0 to {classes - 1}. Row {wrong[0]} has "
            f"{labels[wrong[0]]} ({len(wrong)} rows are out of range)."
        )


def text_classes(
    what: str, known: str | None, labels: dict[str, Array], classes: tuple[str, ...] = ()
) -> Classes:
    """Turn labels that are text into numbers: the names of the training split, sorted.

    Args:
        what: where the labels come from, for messages.
        known: a dataset whose classes have known names.
        labels: {split: text as objects}, with the split "train".
        classes: their names, where the file declares them.

    Raises:
        InputError: a label of another split is none of the training split, or a name cannot be
            the name of a class.
    """

    def by_number(name: str) -> tuple[bool, int, str]:  # numbers first, by their size
        is_number = name.isascii() and name.isdigit()
        return (not is_number, int(name) if is_number else 0, name)

    names = classes or tuple(sorted(set(labels["train"]), key=by_number))
    names = check_classes(what, names, known)
    places = {name: place for place, name in enumerate(names)}
    for split, some in labels.items():
        for row, name in enumerate(some):
            if name not in places:
                raise InputError(
                    f"{what}: {split}: expected one of the labels {shortened(names)}. Row {row} "
                    f"has {name!a}."
                )
    return names, {
        split: np.array([places[name] for name in some], np.int64) for split, some in labels.items()
    }


def shortened(names: Sequence[str]) -> str:
    """Return the names, or of many the first ones."""
    return ", ".join(names[:SHOWN]) + (", …" if names[SHOWN:] else "")


def check_classes(what: str, classes: tuple[str, ...], known: str | None) -> tuple[str, ...]:
    """Return the names of classes; raise InputError if they cannot name a dataset's labels."""
    if len(classes) < 2:
        raise InputError(f"{what}: expected two classes or more. Found: {len(classes)}")
    odd = [name for name in classes if not name.strip() or not name.isprintable()]
    if odd or len(set(classes)) < len(classes):
        twice = [name for name in classes if classes.count(name) > 1]
        raise InputError(
            f"{what}: expected a printable name of its own for each class. Found: "
            f"{(odd or twice)[0]!a}{'' if odd else ' twice'}"
        )
    check_looks(what, classes)
    if known in KNOWN and len(classes) != len(KNOWN[known]):
        raise InputError(
            f"{what}: expected the {len(KNOWN[known])} classes of {known}. Found: {len(classes)}"
        )
    return classes


def check_looks(what: str, classes: Iterable[str]) -> None:
    """Raise InputError where two names of classes look the same; say where only the case differs.

    An accent can be written as one character or as two, and blanks at the end cannot be seen.
    """
    seen: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name in classes:
        looks = " ".join(unicodedata.normalize("NFC", name).split())
        if looks in seen:
            raise InputError(
                f"{what}: two classes have names that look the same: {seen[looks]!a} and {name!a}. "
                "Give them one name, or two that can be told apart."
            )
        if (other := folded.get(looks.casefold())) is not None:
            console.say(
                f"{what}: {other} and {name} are two classes, whose names differ only in capitals."
            )
        seen[looks] = folded[looks.casefold()] = name
