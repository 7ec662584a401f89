"""Reads images by class: folders, or tar archives of them, for a training and a test split."""

import pathlib
import unicodedata

from lottery_tf.datasets import image_files, listing
from lottery_tf.datasets.encoded import Split, one_size
from lottery_tf.datasets.labels import check_looks
from lottery_tf.datasets.raw import Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.terminal import console


def image_folders(directory: pathlib.Path, *, size: tuple[int, int] | None = None, small: int = 0,
                  skip_bad: bool = False, upright: bool = True, white: int = image_files.WHITE,
                  untested: bool = False) -> Sources:  # fmt: skip
    """The splits <train>/<class>/<image> and <test | val>/<class>/<image>, or archives of them.

    Args:
        directory: holds the folders, or archives such as train.tar.gz.
        size: (height, width) that every image must have, to be decoded; None keeps the bytes of
            the files, where they are JPEG in gray or RGB.
        small: decode images that all have one size, of at most so many pixels a side.
        skip_bad: leave an unreadable image out rather than stop at it.
        upright, white: as in image_files.read.
        untested: whether there may be no test split; then <class>/<image> is a training split too.

    Returns:
        {"train" | "test": Source}; standard error tells the images of each class, what is ignored
        or skipped, and what reading changes.

    Raises:
        InputError: a split is missing, there are fewer than two classes or one without images,
            the splits' classes differ, or an image is unreadable or of another size; names it.
    """
    found = _listings(directory, untested)
    _check_classes(directory, **found)
    reading = {"upright": upright, "white": white}
    classes = tuple(found["train"].classes)
    splits = {
        split: Split(images, classes, size=size, skip_bad=skip_bad, reading=reading)
        for split, images in found.items()
    }
    if small and (one := one_size(splits.values(), small)):
        for each in splits.values():
            each.size = one
    return {
        name: Source(len(split.listing.images), split.examples, classes)
        for name, split in splits.items()
    }


def _listings(directory, untested):
    """{split: Listing} of its images; says what is in each, and what is not read."""
    there = [split for split in listing.SPLITS if listing.places(directory, split)]
    if not there and untested:
        found = {"train": listing.of_folder(directory)}
        _check_whole(directory, found["train"])
        _tell(found["train"])
        return found
    found = {}
    for split in there if there == ["train"] and untested else listing.SPLITS:
        found[split], others = listing.find(directory, split)
        _tell(found[split])
        for other in others:
            console.say(f"{other} is not read: {found[split].place} is the {split} split.")
    return found


def _tell(images):
    for line in images.describe():
        console.say(line)


def _check_whole(directory, images):
    """Raises InputError unless a directory without splits holds folders of classes."""
    for name in sorted(path.name for path in directory.iterdir() if path.is_dir()):
        if not listing.is_hidden(name) and listing.places(directory / name, "train"):
            raise InputError(
                f"{directory} lacks train/ or train.tar.gz. {name} has one: name it by "
                f"--raw_dir={directory / name}."
            )
    if len(images.classes) < 2:
        found = sorted(path.name for path in directory.iterdir())
        raise InputError(
            f"{directory} lacks train/ or train.tar.gz, or a folder of images for each of two or "
            f"more classes. Found: {listing.some(found) or 'nothing'}.{_advice(found)}"
        )


def _advice(found):
    """What to do with files that are not laid out by class."""
    tables = [name for name in found if name.lower().endswith((".csv", ".tsv"))]
    packed = [name for name in found if name.lower().endswith(listing.PACKED)]
    if tables:
        return (
            f" If {tables[0]} says the class of each image: move each into a folder that is named "
            "after its class, as docs/data.md shows under Labels in a CSV file."
        )
    if packed:
        return f" Unpack {packed[0]}, and name the folder by --raw_dir."
    return ""


def _check_classes(directory, train, test=None):
    for split in (train, test) if test else (train,):
        if split.empty:
            raise InputError(
                f"{split.place}: expected images in the folder of each class. Found none in "
                f"{', '.join(split.empty)}: remove such a folder, if it is none of a class."
            )
        odd = [name for name in split.classes if not name.isprintable()]
        if odd:
            raise InputError(f"{split.place}: expected names of printable characters for classes. "
                             f"Found: {odd[0]!a}")  # fmt: skip
        check_looks(str(split.place), split.classes)
    if len(train.classes) < 2:
        tables = sorted(path.name for path in directory.glob("*.csv"))
        raise InputError(
            f"{directory}: expected a folder for each of two or more classes in train. Found: "
            f"{', '.join(train.classes) or 'none'}.{_advice(tables)}"
        )
    if test and train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        names = ", ".join(map(ascii if len(set(map(_nfc, odd))) < len(odd) else str, odd))
        raise InputError(f"{directory}: the classes of train and test differ: {names}.")


def _nfc(name):
    return unicodedata.normalize("NFC", name)
