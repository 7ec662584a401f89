"""Reads datasets from the files that their makers publish. NumPy and stdlib only."""

import gzip
import math
import zlib

import numpy as np

from lottery_tf.errors import InputError

IDX_UINT8 = 0x08


def mnist(directory):
    """MNIST from its four IDX files, gzipped or not.

    Returns:
        {"train" | "test": (images uint8 (examples, 28, 28, 1), labels uint8 (examples,))}.

    Raises:
        InputError: a file is missing, truncated, or not what its name says.
    """
    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        image_file = _find(directory, f"{prefix}-images", "idx3-ubyte")
        label_file = _find(directory, f"{prefix}-labels", "idx1-ubyte")
        images = read_idx(image_file, rank=3)
        labels = read_idx(label_file, rank=1)
        if images.shape[1:] != (28, 28):
            raise InputError(f"{image_file}: expected images of 28 x 28. Found: {images.shape}")
        if len(images) != len(labels):
            raise InputError(
                f"{image_file} has {len(images)} images, {label_file} {len(labels)} labels. Is "
                "one of them from another split?"
            )
        if labels.size and labels.max() > 9:
            raise InputError(f"{label_file}: expected labels 0 to 9. Found: {labels.max()}")
        splits[split] = images[..., np.newaxis], labels
    return splits


def read_idx(path, *, rank):
    """The uint8 array of an IDX file: a big-endian magic number, `rank` sizes, the bytes."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    header = 4 * (1 + rank)
    if content[:4] != bytes((0, 0, IDX_UINT8, rank)):
        raise InputError(
            f"{path}: expected an IDX file of bytes with {rank} dimensions, so with the first "
            f"bytes 0000080{rank}. Found: {content[:4].hex() or 'nothing'}"
        )
    # A header that is cut short counts as sizes of zero, which the length then contradicts.
    sizes = content[4:header].ljust(header - 4, b"\0")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if len(content) != header + math.prod(shape):
        raise InputError(
            f"{path}: its header says {shape}, so {header + math.prod(shape)} bytes. Found: "
            f"{len(content)}. It is truncated or damaged."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _find(directory, stem, kind):
    """The IDX file, under any of the names it is published by."""
    names = [f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise InputError(f"{directory} lacks {names[1]}. Looked for: {', '.join(names)}.")
