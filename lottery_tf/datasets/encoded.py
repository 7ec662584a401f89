"""Reads a split of encoded images, files or rows of a table, as examples."""

import collections
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from lottery_tf.datasets import image_files
from lottery_tf.datasets.listing import some
from lottery_tf.errors import InputError
from lottery_tf.terminal import console


class Images(Protocol):
    """The encoded images of a split.

    Attributes:
        place: where they are, for messages.
        images: {name: class}.
    """

    place: pathlib.Path
    images: dict[str, str]

    def contents(self) -> Iterable[tuple[str, bytes | OSError | None]]:
        """(name, bytes) of each; None where there are none, an error where they cannot be read."""


def one_size(splits: Iterable["Split"], at_most: int) -> tuple[int, int] | None:
    """(height, width) if all images have one size of at most so many pixels a side, else None."""
    sizes = set()
    for split in splits:
        for _, _, picture in split.pictures():
            sizes.add(picture.size)
            if len(sizes) > 1 or max(picture.size) > at_most:
                return None
    return sizes.pop()


class Split:
    """Reads the images of a split, as often as asked; tells once what it skips and changes.

    Args:
        listing: its images.
        classes: the names of the labels 0, 1, …
        size: (height, width) that every image must have, to be decoded; None keeps the bytes of
            the files, where they are JPEG in gray or RGB.
        skip_bad: leave an unreadable image out rather than stop at it.
        reading: the options of image_files.read.
    """

    def __init__(self, listing: Images, classes: tuple[str, ...], *,
                 size: tuple[int, int] | None, skip_bad: bool,
                 reading: dict[str, Any]):  # fmt: skip
        self.listing, self.size, self.skip_bad, self.reading = listing, size, skip_bad, reading
        self.labels = {name: label for label, name in enumerate(classes)}
        self.skipped: set[str] = set()
        self.changed: dict[str, set[str]] = collections.defaultdict(set)
        self.levels: set[int] = set()  # the lowest and the highest of each image of 16 bits
        self.told = False
        self.gray = False  # whether one channel of what is decoded is stored
        self.all_gray = True  # of what was read

    def examples(self) -> Iterator:
        """(name, image, label) of each, as Source.examples."""
        for name, content, picture in self.pictures():
            label = self.labels[self.listing.images[name]]
            if self.size:
                pixels = picture.pixels()
                yield name, pixels[..., :1] if self.gray else pixels, label
            else:  # What is not JPEG becomes one, for the part-wise decoding of large images.
                yield name, content if picture.plain else picture.jpeg(), label

    def pictures(self) -> Iterator:
        """(name, bytes, Picture) of each that is readable."""
        left = collections.Counter(self.listing.images.values())
        for name, content in self.listing.contents():
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
        if not self.told:
            self._tell()
        self.told = True

    def _tell(self):
        for change, names in self.changed.items():
            which = some(sorted(names))
            console.say(f"{self.listing.place}: {change}: {len(names)} ({which}).")
        if self.levels:
            highest, white = max(self.levels), self.reading.get("white", image_files.WHITE)
            used = 2 ** highest.bit_length() - 1  # the highest level of the bits that are used
            advice = f" To scale by the bits that they use: --white_level={used}."
            console.say(
                f"{self.listing.place}: gray of 16 bits has levels from {min(self.levels)} to "
                f"{highest}, and {white} becomes 255.{advice if 0 < used < white else ''}"
            )

    def _read(self, name, content):
        path = f"{self.listing.place}: {name}"
        if content is None:
            raise InputError(f"{path} has no bytes of an image.")
        if isinstance(content, OSError):
            raise InputError(f"{path} cannot be read: {content.strerror or content}.")
        picture = image_files.read(path, content, **self.reading)
        if self.size and picture.size != self.size:
            raise InputError(f"{path}: expected {self.size[0]} x {self.size[1]} pixels. Found: "
                             f"{picture.size[0]} x {picture.size[1]}.")  # fmt: skip
        self.all_gray &= picture.gray
        self.levels.update(picture.levels or ())
        for change in picture.changes:
            self.changed[change].add(name)
        return picture

    def _skip(self, name, error):
        if not self.skip_bad:
            raise InputError(f"{error} To leave such images out: --skip_bad.") from None
        if name not in self.skipped:
            self.skipped.add(name)
            console.say(f"Skipped: {error}")
