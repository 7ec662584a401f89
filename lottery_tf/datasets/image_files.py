"""One image file -> RGB pixels of 8 bits, by Pillow; what it cannot turn into them is refused."""

import dataclasses
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array

# Formats that Pillow knows by name but hands to other programs, or only tells apart.
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
ORIENTATION = 0x0112  # EXIF's tag: 1 is upright
BITS, WHITE_IS_ZERO = 258, (262, 0)  # TIFF's tags BitsPerSample and PhotometricInterpretation
WHITE = 65535  # the level of 16 bits that is white
GRAY_OR_RGB = ("L", "RGB")
ONE_CHANNEL = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
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
    """The endings of the files that Pillow reads here, in lower case, with their dot."""
    known = Image.registered_extensions().items()
    return frozenset(end for end, kind in known if kind in Image.OPEN and kind not in NO_IMAGES)


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image that was read.

    Args:
        image: in RGB, with 8 bits a channel.
        plain: whether the bytes of the file give the same pixels to any reader of JPEG.
        changes: what reading changed, such as TURNED.
        gray: whether the file has one channel, and so the three of `image` are equal.
        levels: the lowest and the highest in the file, of gray with 16 bits.
    """

    image: Image.Image
    plain: bool
    changes: frozenset[str]
    gray: bool = False
    levels: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.height, self.image.width

    def pixels(self) -> Array:
        """uint8 (height, width, 3)."""
        return np.asarray(self.image)

    def jpeg(self) -> bytes:
        """A JPEG of quality 95."""
        buffer = io.BytesIO()
        self.image.save(buffer, "JPEG", quality=95)
        return buffer.getvalue()


def read(name: str, content: bytes, *, upright: bool = True, white: int = WHITE) -> Picture:
    """The Picture in the bytes of an image file.

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
    except UnidentifiedImageError as error:
        cause: Exception = error
        reason = "Pillow knows no such format"
    except Image.DecompressionBombError as error:
        cause = error
        reason = (
            f"it says that it has over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which would "
            "fill the memory"
        )
    except Exception as error:  # what a damaged file raises is of any kind
        cause, reason = error, str(error).rstrip(".") or type(error).__name__
    raise InputError(f"{name} is no readable image: {reason}.") from cause


def _read(image, upright, white):
    kind, frames = image.format, getattr(image, "is_animated", False)
    gray, changes = image.mode in ONE_CHANNEL, {FIRST_FRAME} if frames else set()
    sixteen = image.mode in SIXTEEN_BITS or (image.mode == "I" and kind == "PPM")
    tags = dict(image.tag_v2) if kind == "TIFF" else {}
    if any(";16" in str(tile[3]) for tile in image.tile) and not gray:
        changes.add(UPPER)
        if white != WHITE:
            raise ValueError(f"--white_level={white} expects gray. It has colours of 16 bits")
    image.load()
    plain = kind == "JPEG" and image.mode in GRAY_OR_RGB
    if upright and _orientation(image) in range(2, 9):
        image, plain = ImageOps.exif_transpose(image), False
        changes.add(TURNED)
    levels = None
    if sixteen:
        white = min(white, 2 ** tags.get(BITS, (16,))[0] - 1)  # TIFF may have 12 bits
        image, levels = _of_8_bits(image, white, negative=WHITE_IS_ZERO in tags.items())
        changes.add(SCALED)
    rgb, changed = _to_rgb(image)
    return Picture(rgb, plain, frozenset(changes | changed), gray, levels)


def _of_8_bits(image, white, *, negative):
    """(gray of 16 bits scaled to 8, the lowest and the highest level in the file)."""
    levels = np.asarray(image).astype(np.uint32)
    lowest, highest = int(levels.min()), int(levels.max())
    if highest > white:
        raise ValueError(f"expected levels up to --white_level={white}. The highest is {highest}")
    if negative:  # Pillow turns those of up to 8 bits itself
        levels = white - levels
    scaled = (levels * 255 + white // 2) // white
    return Image.fromarray(scaled.astype(np.uint8)), (lowest, highest)


def _orientation(image):
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF, of which the pixels do not depend
        return 1


def _to_rgb(image):
    """(the image in RGB, the changes that this makes)."""
    if image.mode in OF_NO_KNOWN_SCALE:
        raise ValueError(
            f"its pixels are {OF_NO_KNOWN_SCALE[image.mode]}, of which nothing says what is white; "
            "save it with 8 or 16 bits a channel"
        )
    if image.mode not in WITH_ALPHA and "transparency" not in image.info:
        return image.convert("RGB"), set()
    image = image.convert("RGBA")
    transparent = image.getchannel("A").getextrema()[0] < 255
    return image.convert("RGB"), {OPAQUE} if transparent else set()
