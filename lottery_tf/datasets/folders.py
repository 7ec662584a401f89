"""Reads images by class: folders, or tar archives of them, for a training and a test split."""

import pathlib

from lottery_tf.datasets import listing
from lottery_tf.datasets.encoded import Split, one_size
from lottery_tf.datasets.raw import Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.terminal import console


def image_folders(directory: pathlib.Path, *, size: tuple[int, int] | None = None, small: int = 0,
                  skip_bad: bool = False, upright: bool = True) -> Sources:  # fmt: skip
    """The splits <train>/<class>/<image> and <test | val>/<class>/<image>, or tars of them.

    Args:
        directory: holds the folders, or archives such as train.tar.gz.
        size: (height, width) that every image must have, to be decoded; None keeps the bytes of
            the files, where they are JPEG in gray or RGB.
        small: decode images that all have one size, of at most so many pixels a side.
        skip_bad: leave an unreadable image out rather than stop at it.
        upright: turn images as their EXIF orientation says.

    Returns:
        {"train" | "test": Source}; standard error tells the images of each class, what is ignored
        or skipped, and what reading changes.

    Raises:
        InputError: a split is missing, there are fewer than two classes or one without images,
            the splits' classes differ, or an image is unreadable or of another size; names it.
    """
    found = _listings(directory)
    _check_classes(directory, **found)
    classes = tuple(found["train"].classes)
    splits = {
        split: Split(images, classes, size=size, skip_bad=skip_bad, upright=upright)
        for split, images in found.items()
    }
    if small and (one := one_size(splits.values(), small)):
        for each in splits.values():
            each.size = one
    return {
        name: Source(len(split.listing.images), split.examples, classes)
        for name, split in splits.items()
    }


def _listings(directory):
    """{split: Listing} of its images; says what is in each, and what is not read."""
    found = {}
    for split in listing.SPLITS:
        found[split], others = listing.find(directory, split)
        for line in found[split].describe():
            console.say(line)
        for other in others:
            console.say(f"{other} is not read: {found[split].place} is the {split} split.")
    return found


def _check_classes(directory, train, test):
    for split in (train, test):
        if split.empty:
            raise InputError(
                f"{split.place}: expected images in the folder of each class. Found none in "
                f"{', '.join(split.empty)}: remove such a folder, if it is none of a class."
            )
        odd = [name for name in split.classes if not name.isprintable()]
        if odd:
            raise InputError(f"{split.place}: expected names of printable characters for classes. "
                             f"Found: {odd[0]!a}")  # fmt: skip
    if len(train.classes) < 2:
        raise InputError(f"{directory}: expected a folder for each of two or more classes in "
                         f"train. Found: {', '.join(train.classes) or 'none'}")  # fmt: skip
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise InputError(f"{directory}: the classes of train and test differ: {', '.join(odd)}.")
