"""Reads image files by Pillow: RGB pixels of 8 bits, or an error that says why not.

`sources` reads whole splits of them, files of folders or rows of a table.
"""

import collections
import dataclasses
import io
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lottery_tf.datasets.raw import Example, Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array
from lottery_tf.terminal import console

# Formats that Pillow knows by name but hands to other programs, or only tells apart.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
ORIENTATION = 0x0112  # EXIF's tag: 1 is upright
BITS, WHITE_IS_ZERO = 258, (262, 0)  # TIFF's tags BitsPerSample and PhotometricInterpretation
WHITE = 65535  # the level of 16 bits that is white
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
ONE_CHANNEL = ("1", "L", "I", *SIXTEEN_BITS)
OF_NO_KNOWN_SCALE = {
    "I": "integers of 32 bits",
    "F": "floating-point numbers",
    "I;16S": "signed integers",
}

# What reading changes, as a user is told it.
TURNED = "turned upright, as their EXIF orientation says"
SCALED = "gray of 16 bits, scaled to 8"
UPPER = "colours or transparency of 16 bits, of which the upper 8 are taken"
OPAQUE = "transparent in places; the alpha channel is dropped"
FIRST_FRAME = "more than one frame or page; the first is taken"


def endings() -> frozenset[str]:
    """Return the endings of the files that Pillow reads here, in lower case, with their dot."""
    known = Image.registered_extensions().items()
    return frozenset(end for end, kind in known if kind in Image.OPEN and kind not in NO_IMAGES)


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image that was read."""

    image: Image.Image  # in RGB, with 8 bits a channel
    plain: bool  # whether the bytes of the file give the same pixels to any reader of JPEG
    changes: frozenset[str]  # what reading changed, such as TURNED
    gray: bool  # whether the file has one channel, and so the three of `image` are equal
    levels: tuple[int, int] | None  # the lowest and highest in the file, of gray with 16 bits

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.height, self.image.width

    def pixels(self) -> Array:
        """Return uint8 (height, width, 3)."""
        return np.asarray(self.image)

    def jpeg(self) -> bytes:
        """Return a JPEG of quality 95."""
        buffer = io.BytesIO()
        self.image.save(buffer, "JPEG", quality=95)
        return buffer.getvalue()


def read(name: str, content: bytes, *, upright: bool = True, white: int = WHITE) -> Picture:
    """Read the bytes of an image file.

    Args:
        name: of the file, for messages.
        upright: turn it as its EXIF orientation says.
        white: the level that becomes 255, of gray with 16 bits.

    Raises:
        InputError: the file is damaged, no image, of too many pixels, or its pixels have no known
            scale from black to white.
    """
    try:
        with warnings.catch_warnings():  # of metadata, and of half as many pixels as are too many
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return _read(image, upright, white)
    except Exception as error:  # what a damaged file raises is of any kind
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "Pillow knows no such format"
        elif isinstance(error, Image.DecompressionBombError):
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            reason = f"it says that it has over {most:,} pixels, which would fill the memory"
        raise InputError(f"{name} is no readable image: {reason}.") from error


def _read(image: Image.Image, upright: bool, white: int) -> Picture:
    kind, frames = image.format, getattr(image, "is_animated", False)
    gray, changes = image.mode in ONE_CHANNEL, {FIRST_FRAME} if frames else set()
    sixteen = image.mode in SIXTEEN_BITS or (image.mode == "I" and kind == "PPM")
    tags = dict(image.tag_v2) if kind == "TIFF" else {}  # type: ignore[attr-defined]
    tiles = getattr(image, "tile", [])
    if any(";16" in str(tile[3]) for tile in tiles) and not gray:
        changes.add(UPPER)
        if white != WHITE:
            raise ValueError(f"--white_level={white} expects gray. It has colours of 16 bits")
    image.load()
    plain = kind == "JPEG" and image.mode in ("L", "RGB")
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF, which the pixels do not need
        orientation = 1
    if upright and orientation in range(2, 9):
        image, plain = ImageOps.exif_transpose(image), False
        changes.add(TURNED)
    levels = None
    if sixteen:
        white = min(white, 2 ** tags.get(BITS, (16,))[0] - 1)  # TIFF may have 12 bits
        image, levels = _of_8_bits(image, white, negative=WHITE_IS_ZERO in tags.items())
        changes.add(SCALED)
    if image.mode in OF_NO_KNOWN_SCALE:
        raise ValueError(
            f"its pixels are {OF_NO_KNOWN_SCALE[image.mode]}, of which nothing says what is white; "
            "save it with 8 or 16 bits a channel"
        )
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            changes.add(OPAQUE)
    return Picture(image.convert("RGB"), plain, frozenset(changes), gray, levels)


def _of_8_bits(
    image: Image.Image, white: int, *, negative: bool
) -> tuple[Image.Image, tuple[int, int]]:
    """Scale gray of 16 bits to 8; return it and the lowest and the highest level in the file."""
    levels = np.asarray(image).astype(np.uint32)
    lowest, highest = int(levels.min()), int(levels.max())
    if highest > white:
        raise ValueError(f"expected levels up to --white_level={white}. The highest is {highest}")
    if negative:  # Pillow turns those of up to 8 bits itself
        levels = white - levels
    shades = (levels * 255 + white // 2) // white
    return Image.fromarray(shades.astype(np.uint8)), (lowest, highest)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How image files are read: the options of `read`, and whether to leave unreadable ones out."""

    upright: bool = True
    white: int = WHITE
    skip_bad: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """The encoded images of a split.

    Args:
        place: where they are, for messages.
        images: {name: class}.
        contents: a function that yields (name, bytes) of each; in place of the bytes None where it
            has none, an error where it is unreadable.
    """

    place: pathlib.Path
    images: dict[str, str]
    contents: Callable[[], Iterable[tuple[str, bytes | OSError | None]]]


def sources(
    listings: dict[str, Listing],
    classes: tuple[str, ...],
    reading: Reading,
    *,
    size: tuple[int, int] | None = None,
    small: int = 0,
    keep_gray: bool = False,
) -> Sources:
    """Return a Source for each split of encoded images.

    Args:
        listings: {split: its images}.
        classes: the names of the labels 0, 1, …
        reading: how to read the files.
        size: (height, width) that every image must have, to be decoded; None keeps the bytes of
            the files, where they are JPEG in gray or RGB, and makes others such a JPEG, of which
            training decodes a part alone.
        small: decode images that all have one size, of at most so many pixels a side.
        keep_gray: store one channel of those, where all images have one.
    """
    splits = {split: _Split(listing, classes, reading, size) for split, listing in listings.items()}
    if small:
        pictures = (picture for each in splits.values() for _, _, picture in each.pictures())
        one = next(pictures).size
        if max(one) <= small and all(picture.size == one for picture in pictures):
            gray = keep_gray and all(split.all_gray for split in splits.values())
            for each in splits.values():
                each.size, each.gray = one, gray
    return {
        name: Source(len(split.listing.images), split.examples, classes)
        for name, split in splits.items()
    }


class _Split:
    """Reads the images of a split, as often as asked; tells once what it skips and changes."""

    def __init__(
        self,
        listing: Listing,
        classes: tuple[str, ...],
        reading: Reading,
        size: tuple[int, int] | None,
    ):
        self.listing, self.size, self.reading = listing, size, reading
        self.labels = {name: label for label, name in enumerate(classes)}
        self.skipped: set[str] = set()
        self.changed: dict[str, set[str]] = collections.defaultdict(set)
        self.levels: set[int] = set()  # the lowest and the highest of each image of 16 bits
        self.told = False
        self.gray = False  # whether one channel of what is decoded is stored
        self.all_gray = True  # whether all that was read has one channel

    def examples(self) -> Iterator[Example]:
        """Yield an Example of each readable image."""
        for name, content, picture in self.pictures():
            label = self.labels[self.listing.images[name]]
            if self.size:
                pixels = picture.pixels()
                yield name, pixels[..., :1] if self.gray else pixels, label
            else:
                yield name, content if picture.plain else picture.jpeg(), label

    def pictures(self) -> Iterator[tuple[str, bytes, Picture]]:
        """Yield (name, bytes, Picture) of each readable image."""
        place, images = self.listing.place, self.listing.images
        left = collections.Counter(images.values())
        for name, content in self.listing.contents():
            try:
                yield self._read(name, content)
            except InputError as error:
                self._skip(name, error)
                left[images[name]] -= 1
                if not left[images[name]]:
                    raise InputError(f"{place}: no image of {images[name]} is left.") from None
        if not self.told:
            self._tell()
        self.told = True

    def _read(self, name: str, content: bytes | OSError | None) -> tuple[str, bytes, Picture]:
        path = f"{self.listing.place}: {name}"
        if content is None:
            raise InputError(f"{path} has no bytes of an image.")
        if isinstance(content, OSError):
            raise InputError(f"{path} cannot be read: {content.strerror or content}.")
        picture = read(path, content, upright=self.reading.upright, white=self.reading.white)
        if self.size and picture.size != self.size:
            raise InputError(
                f"{path}: expected {self.size[0]} x {self.size[1]} pixels. Found: "
                f"{picture.size[0]} x {picture.size[1]}."
            )
        self.all_gray &= picture.gray
        self.levels.update(picture.levels or ())
        for change in picture.changes:
            self.changed[change].add(name)
        return name, content, picture

    def _skip(self, name: str, error: InputError) -> None:
        if not self.reading.skip_bad:
            raise InputError(f"{error} To leave such images out: --skip_bad.") from None
        if name not in self.skipped:
            self.skipped.add(name)
            console.say(f"Skipped: {error}")

    def _tell(self) -> None:
        for change, names in self.changed.items():
            which = some(sorted(names))
            console.say(f"{self.listing.place}: {change}: {len(names)} ({which}).")
        if self.levels:
            highest, white = max(self.levels), self.reading.white
            used = 2 ** highest.bit_length() - 1  # the highest level of the bits that are used
            advice = f" To scale by the bits that they use: --white_level={used}."
            console.say(
                f"{self.listing.place}: gray of 16 bits has levels from {min(self.levels)} to "
                f"{highest}, and {white} becomes 255.{advice if 0 < used < white else ''}"
            )


def some(names: Sequence[str]) -> str:
    """Return the first two of the names, as they stand in a message."""
    return ", ".join(names[:2]) + (", …" if names[2:] else "")
