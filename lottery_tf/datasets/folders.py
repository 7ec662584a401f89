"""Reads images by class: folders, or tar archives of them, for a training and a test split."""

import io
import pathlib
import sys
import tarfile
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from lottery_tf.datasets.raw import Source, Sources
from lottery_tf.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
SPLITS = {"train": ("train",), "test": ("test", "val", "validation")}


def image_folders(
    directory: pathlib.Path, *, size: tuple[int, int] | None = None, skip_bad: bool = False
) -> Sources:
    """The splits <train>/<class>/<image> and <test | val>/<class>/<image>, or tars of them.

    Args:
        directory: holds the folders, or archives such as train.tar.gz.
        size: (height, width) that every image must have, to be decoded; None keeps the bytes of
            the files.
        skip_bad: leave an unreadable image out rather than stop at it.

    Returns:
        {"train" | "test": Source}; what is skipped is named on standard error.

    Raises:
        InputError: a split is missing, there are fewer than two classes, the splits' classes
            differ, or an image is unreadable or of another size; names it.
    """
    names = {split: _list(directory, choices) for split, choices in SPLITS.items()}
    classes = {split: sorted(set(map(_class, files))) for split, (_, files) in names.items()}
    _check_classes(directory, **classes)
    index = {name: label for label, name in enumerate(classes["train"])}

    def source(place, files):
        def examples():
            for name, content in _contents(place, set(files)):
                try:
                    yield name, _check(f"{place}: {name}", content, size), index[_class(name)]
                except InputError as error:
                    if not skip_bad:
                        raise InputError(f"{error} To leave such images out: --skip_bad.") from None
                    print(f"Skipped: {error}", file=sys.stderr)

        return Source(len(files), examples, tuple(classes["train"]))

    return {split: source(*found) for split, found in names.items()}


def _check_classes(directory, train, test):
    if len(train) < 2:
        raise InputError(f"{directory}: expected a folder for each of two or more classes in "
                         f"train. Found: {', '.join(train) or 'none'}")  # fmt: skip
    if train != test:
        odd = sorted(set(train) ^ set(test))
        raise InputError(f"{directory}: the classes of train and test differ: {', '.join(odd)}.")


def one_size(sources: Sources) -> tuple[int, int] | None:
    """(height, width) if all images of all sources have one size, else None; reads headers."""
    sizes = set()
    for source in sources.values():
        for _, content, _ in source.examples():
            with Image.open(io.BytesIO(content)) as image:
                sizes.add((image.height, image.width))
            if len(sizes) > 1:
                return None
    return sizes.pop() if sizes else None


def _places(directory, choices):
    names = [f"{choice}{end}" for choice in choices for end in ("", ".tar", ".tar.gz", ".tgz")]
    return [directory / name for name in names if (directory / name).exists()]


def _list(directory, choices):
    """(folder or archive, names <class>/<image> in it) of a split."""
    places = _places(directory, choices)
    if not places:
        raise InputError(f"{directory} lacks {choices[0]}/ or {choices[0]}.tar.gz with a folder of "
                         "images for each class.")  # fmt: skip
    place = places[0]
    if place.is_dir():
        files = [str(path.relative_to(place)) for path in place.glob("*/*") if path.is_file()]
    else:
        files = [name for name, _ in _members(place)]
    return place, sorted(name for name in files if name.lower().endswith(ENDINGS))


def _contents(place, wanted):
    if place.is_dir():
        for name in sorted(wanted):
            yield name, (place / name).read_bytes()
    else:
        for name, read in _members(place):
            if name in wanted:
                yield name, read()


def _members(archive):
    """(<class>/<image>, a function that reads it) of each file of an archive, in its order."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    name = "/".join(pathlib.PurePosixPath(member.name).parts[-2:])
                    yield name, lambda member=member: tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{archive} cannot be read: {error}.") from None


def _class(name):
    return pathlib.PurePosixPath(name).parts[0]


def _check(name, content, size):
    """The decoded image (height, width, 3) if a size is wanted, else the bytes as they are.

    What is not JPEG becomes JPEG of quality 95, for the part-wise decoding of large images.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if size is None:
                return content if image.format == "JPEG" else _to_jpeg(image)
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name} is no readable image: {error}.") from None
    if pixels.shape[:2] != size:
        raise InputError(f"{name}: expected {size[0]} x {size[1]} pixels. Found: "
                         f"{pixels.shape[0]} x {pixels.shape[1]}.")  # fmt: skip
    return pixels


def _to_jpeg(image):
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
