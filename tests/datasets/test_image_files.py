"""Image files of every kind -> RGB of 8 bits, with the brightness that they show; or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lottery_tf.datasets import image_files
from lottery_tf.errors import InputError
from tests.versions import since

OWN_TIFF = since("pillow", "13.0", "it takes its own TIFFs in YCbCr for truncated")
pytestmark = pytest.mark.versions

GRAY = np.random.default_rng(0).normal(60, 10, (16, 20)).clip(0, 255).astype(np.uint8)


def stored(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gray(mode):
    return Image.fromarray(GRAY).convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("L", kind) for kind in ("PNG", "TIFF", "BMP", "GIF", "PPM", "TGA", "JPEG2000")),
        *(("RGB", kind) for kind in ("PNG", "TIFF", "BMP", "PPM", "TGA", "QOI")),
        *(("LA", kind) for kind in ("PNG", "TIFF", "TGA")),
        *(("RGBA", kind) for kind in ("PNG", "TIFF")),
        ("CMYK", "TIFF"),
    ],
)
def test_modes_of_8_bits_keep_their_pixels(mode, kind):
    picture = image_files.read("a", stored(gray(mode), kind))
    assert np.array_equal(picture.pixels(), np.stack([GRAY] * 3, -1))
    assert (picture.changes, picture.plain, picture.size) == (set(), False, (16, 20))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("P", "PNG"),
        ("1", "PNG"),
        pytest.param("YCbCr", "TIFF", marks=OWN_TIFF),
        ("LAB", "TIFF"),
        ("RGB", "WEBP"),
        ("RGB", "AVIF"),
        ("CMYK", "JPEG"),
    ],
)
def test_lossy_modes_keep_their_brightness(mode, kind):
    image = gray("RGB").convert("L") if mode == "LAB" else gray(mode)
    if mode == "LAB":  # lightness counts 0 to 255, no colour
        image = Image.merge("LAB", [image, *[Image.new("L", image.size, 128)] * 2])
        picture = image_files.read("a", stored(image, kind))
        assert picture.pixels().std((0, 1)) == pytest.approx(GRAY.std(), rel=0.2)
        return
    picture = image_files.read("a", stored(image, kind))
    assert picture.pixels().mean() == pytest.approx(GRAY.mean(), abs=4)
    assert not picture.plain


@pytest.mark.parametrize("level", [0, 1, 60, 190, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bits_are_scaled_to_8(kind, level):
    image = Image.fromarray(np.full((4, 6), 257 * level, np.uint16))
    picture = image_files.read("a", stored(image, kind))
    assert np.array_equal(picture.pixels(), np.full((4, 6, 3), level))
    assert picture.changes == {image_files.SCALED}


def test_16_bits_are_rounded():
    image = Image.fromarray(np.array([[128, 129, 385, 386, 65535]], np.uint16))
    picture = image_files.read("a", stored(image, "PNG"))
    assert picture.pixels()[0, :, 0].tolist() == [0, 1, 1, 2, 255]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [(np.zeros((4, 4), np.float32), "floating-point"), (np.zeros((4, 4), np.int32), "32 bits")],
)
def test_pixels_of_no_known_scale_are_refused(pixels, words):
    with pytest.raises(InputError, match=rf"cat/a\.tif.*{words}"):
        image_files.read("cat/a.tif", stored(Image.fromarray(pixels), "TIFF"))


def test_what_is_plain_keeps_its_bytes():
    for mode in ("L", "RGB"):
        content = stored(gray(mode), "JPEG")
        assert image_files.read("a", content).plain
        with Image.open(io.BytesIO(content)) as image:
            assert np.array_equal(image_files.read("a", content).pixels(), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_dropped_transparency_and_frames_are_told(mode):
    image = gray("L").convert("RGBA")
    image.putpixel((0, 0), (*[int(GRAY[0, 0])] * 3, 0))
    options = {}
    if mode == "P":
        image, options = gray("P"), {"transparency": bytes([0] * 256)}
    picture = image_files.read("a", stored(image.convert(mode), "PNG", **options))
    assert picture.changes == {image_files.OPAQUE}
    assert picture.pixels().mean() == pytest.approx(GRAY.mean(), abs=4)
    frames = [Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)]
    content = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = image_files.read("a", content)
    assert (picture.pixels().max(), picture.changes) == (10, {image_files.FIRST_FRAME})


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])  # Pillow itself turns TIFF
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientations(orientation, kind):
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    content = stored(Image.fromarray(GRAY), kind, exif=exif)
    right = {2: np.fliplr(GRAY), 3: np.rot90(GRAY, 2), 4: np.flipud(GRAY), 5: GRAY.T}
    right |= {6: np.rot90(GRAY, -1), 7: np.rot90(GRAY.T, 2), 8: np.rot90(GRAY)}
    picture = image_files.read("a", content)
    assert np.array_equal(picture.pixels()[..., 0], right.get(orientation, GRAY))
    assert (image_files.TURNED in picture.changes) == (orientation in right and kind == "PNG")


def test_damaged_files_are_refused_by_name():
    whole = [stored(gray("RGB"), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")]
    generator, messages = np.random.default_rng(0), []
    for content in whole * 40:
        damaged = np.frombuffer(content[: generator.integers(1, len(content))], np.uint8).copy()
        damaged[generator.integers(0, len(damaged), 4)] = generator.integers(0, 256, 4)
        try:
            image_files.read("cat/a", damaged.tobytes())
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 150
    for message in messages:
        assert message.startswith("cat/a ")
        assert "0x" not in message
        assert "\n" not in message


def tiff(levels, bits, photometric, order="<", palette=None):
    """An uncompressed TIFF of one channel, written by hand; Pillow writes few of its kinds."""
    levels = np.asarray(levels)
    height, width = levels.shape
    if bits in (8, 16, 32):
        strip = levels.astype(f"{order}u{bits // 8}").tobytes()
    else:  # rows of bits, filled up to bytes
        places = (levels[..., None] >> np.arange(bits)[::-1]) & 1
        strip = np.packbits(places.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric}
    tags |= {273: None, 277: 1, 278: height, 279: len(strip)}
    if palette is not None:
        tags[320] = palette
    start = 8 + 2 + 12 * len(tags) + 4
    entries, colours = b"", b""
    for tag, value in sorted(tags.items()):
        if tag == 320:
            colours = np.asarray(value).astype(f"{order}u2").tobytes()
            entries += struct.pack(f"{order}HHII", tag, 3, len(colours) // 2, start + len(strip))
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, start if value is None else value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + strip + colours


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_tiff_shows_black_as_black_whichever_level_is_white(bits, white_is_zero, order):
    white = 2**bits - 1
    shown = np.array([[0, white, white // 2, white]] * 2)  # dark, bright, between, bright
    stored = white - shown if white_is_zero else shown
    content = tiff(stored, bits, 0 if white_is_zero else 1, order)
    # Pillow reads little-endian files of 12 bits alone, and none of both 16 bits and two rarities.
    if (bits == 12 and (white_is_zero or order == ">")) or (
        bits == 16 and white_is_zero and order == ">"
    ):
        with pytest.raises(InputError, match=r"a\.tif"):
            image_files.read("a.tif", content)
        return
    picture = image_files.read("a.tif", content)
    expected = np.rint(shown * 255 / white)
    assert np.abs(picture.pixels()[..., 0] - expected).max() <= 1
    assert picture.pixels()[0, :2, 0].tolist() == [0, 255]


def test_a_palette_and_32_bits_of_tiff():
    palette = np.arange(768).reshape(256, 3).T[::-1] * 85  # any colours: red, green, blue
    content = tiff([[0, 1, 200]], 8, 3, palette=palette.ravel())
    assert np.array_equal(image_files.read("a", content).pixels()[0], palette.T[[0, 1, 200]] // 256)
    for photometric in (0, 1):
        with pytest.raises(InputError, match=r"a\.tif"):
            image_files.read("a.tif", tiff([[0, 1, 200]], 32, photometric))


def test_a_negative_of_16_bits_is_turned_and_its_levels_are_those_of_the_file():
    content = tiff([[0, 1000], [4095, 65535]], 16, 0)
    picture = image_files.read("a", content)
    assert picture.pixels()[..., 0].tolist() == [[255, 251], [239, 0]]
    assert picture.levels == (0, 65535)


def test_16_bits_that_use_fewer_are_scaled_as_asked():
    levels = np.array([[0, 16, 2048, 4095]], np.uint16)
    for content in (stored(Image.fromarray(levels), "PNG"), tiff(levels, 16, 1)):
        assert image_files.read("a", content).pixels()[0, :, 0].tolist() == [0, 0, 8, 16]
        picture = image_files.read("a", content, white=4095)
        assert picture.pixels()[0, :, 0].tolist() == [0, 1, 128, 255]
        assert picture.levels == (0, 4095)
        with pytest.raises(InputError, match=r"--white_level=4000.*4095"):
            image_files.read("a", content, white=4000)
    negative = image_files.read("a", tiff(4095 - levels.astype(int), 16, 0), white=4095)
    assert negative.pixels()[0, :, 0].tolist() == [0, 1, 128, 255]


def test_colours_of_16_bits_are_told():
    """Pillow keeps the upper 8 bits alone, so that their range cannot be seen."""

    def chunk(kind, content):
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    rows = b"\0" + np.array([[4095, 65535, 0]], ">u2").tobytes()
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    picture = image_files.read("a", content)
    assert picture.pixels().tolist() == [[[15, 255, 0]]]
    assert (picture.changes, picture.levels) == ({image_files.UPPER}, None)
    with pytest.raises(InputError, match="--white_level=4095"):
        image_files.read("a", content, white=4095)
