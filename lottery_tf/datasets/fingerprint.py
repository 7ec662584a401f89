"""Tells one dataset from another by the content of its files, wherever they lie. Stdlib only."""

import hashlib
import pathlib
from typing import Any

from lottery_tf.datasets import PreparedDataset
from lottery_tf.errors import InputError

BLOCK = 2**16  # bytes
BLOCKS = 4096  # read of a dataset: all of one below 256 MB, under a second


def fingerprint(directory: PreparedDataset) -> dict[str, Any]:
    """Return what tells the splits of a dataset from others, for JSON.

    Of each split the examples and bytes in its files, and a SHA-256 of the size of each file and of
    blocks spread evenly over it; of up to 256 MB all is read. A change within a large file that
    keeps its size is found only if it lies in one of the blocks.

    Returns:
        {"image": in words, "classes": number, "train" and "test": {"examples", "bytes", "sha256"}}.

    Raises:
        InputError: a file cannot be read.
    """
    shards = {shard.path for split in directory.splits.values() for shard in split.shards}
    blocks = max(2, BLOCKS // len(shards))
    try:
        content = {path: _sample(path, blocks) for path in sorted(shards)}
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror}.") from None
    found: dict[str, Any] = {"image": directory.fields.image, "classes": directory.classes}
    for name in ("train", "test"):
        of_split = [content[shard.path] for shard in directory.splits[name].shards]
        found[name] = {
            "examples": sum(shard.examples for shard in directory.splits[name].shards),
            "bytes": sum(size for size, _ in of_split),
            "sha256": hashlib.sha256(b"".join(digest for _, digest in of_split)).hexdigest(),
        }
    return found


def _sample(path: pathlib.Path, blocks: int) -> tuple[int, bytes]:
    """Return the size of a file, and a digest of it and of so many blocks of the file."""
    with open(path, "rb", buffering=0) as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        file.seek(0)
        if size <= blocks * BLOCK:
            while block := file.read(2**20):
                digest.update(block)
            return size, digest.digest()
        for index in range(blocks):  # the first begins the file, the last ends it
            file.seek(index * (size - BLOCK) // (blocks - 1))
            digest.update(file.read(BLOCK))
    return size, digest.digest()
