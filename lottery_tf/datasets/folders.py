"""Reads images by class: folders, or tar archives of them, for a training and a test split."""

import collections
import pathlib
from collections.abc import Iterator

from lottery_tf.datasets import image_files, listing
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
    if small and (one := _one_size(splits.values(), small)):
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


def _one_size(splits, at_most):
    """(height, width) if all images have one size of at most so many pixels a side, else None."""
    sizes = set()
    for split in splits:
        for _, _, picture in split.pictures():
            sizes.add(picture.size)
            if len(sizes) > 1 or max(picture.size) > at_most:
                return None
    return sizes.pop()


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


class Split:
    """Reads the images of a split, as often as asked; tells once what it skips and changes.

    Args:
        listing: its images.
        classes: the names of the labels 0, 1, …
        size, skip_bad, upright: as in image_folders.
    """

    def __init__(self, listing: listing.Listing, classes: tuple[str, ...], *,
                 size: tuple[int, int] | None, skip_bad: bool, upright: bool):  # fmt: skip
        self.listing, self.size, self.skip_bad, self.upright = listing, size, skip_bad, upright
        self.labels = {name: label for label, name in enumerate(classes)}
        self.skipped: set[str] = set()
        self.changed: dict[str, set[str]] = collections.defaultdict(set)
        self.told = False

    def examples(self) -> Iterator:
        """(name, image, label) of each, as Source.examples."""
        for name, content, picture in self.pictures():
            label = self.labels[self.listing.images[name]]
            if self.size:
                yield name, picture.pixels(), label
            else:  # What is not JPEG becomes one, for the part-wise decoding of large images.
                yield name, content if picture.plain else picture.jpeg(), label

    def pictures(self) -> Iterator:
        """(name, bytes, Picture) of each that is readable."""
        left = collections.Counter(self.listing.images.values())
        for name, content in listing.contents(self.listing):
            try:
                picture = self._read(name, content)
            except InputError as error:
                self._skip(name, error)
                left[self.listing.images[name]] -= 1
                if not left[self.listing.images[name]]:
                    raise InputError(
                        f"{self.listing.place}: no image of {self.listing.images[name]} is left."
                    ) from None
            else:
                yield name, content, picture
        for change, names in self.changed.items() if not self.told else ():
            which = listing.some(sorted(names))
            console.say(f"{self.listing.place}: {change}: {len(names)} ({which}).")
        self.told = True

    def _read(self, name, content):
        path = f"{self.listing.place}: {name}"
        picture = image_files.read(path, content, upright=self.upright)
        if self.size and picture.size != self.size:
            raise InputError(f"{path}: expected {self.size[0]} x {self.size[1]} pixels. Found: "
                             f"{picture.size[0]} x {picture.size[1]}.")  # fmt: skip
        for change in picture.changes:
            self.changed[change].add(name)
        return picture

    def _skip(self, name, error):
        if not self.skip_bad:
            raise InputError(f"{error} To leave such images out: --skip_bad.") from None
        if name not in self.skipped:
            self.skipped.add(name)
            console.say(f"Skipped: {error}")
