"""Reads MNIST and CIFAR from the files that their makers publish. NumPy and stdlib only.

Every reader of raw files, here and elsewhere, returns {"train" | "test" | …: Source}.
"""

import dataclasses
import gzip
import io
import math
import pathlib
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array

IDX_UINT8 = 0x08
CIFAR_CLASSES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": tuple(str(label) for label in range(100)),
}
# (key, image, label): the image is an array (height, width, channels) of uint8, uint16 or float32,
# or the bytes of an image file.
Example = tuple[int | str, Array | bytes, int]


@dataclasses.dataclass(frozen=True)
class Source:
    """A split before it is written.

    Keys of examples that are names, and no whole numbers, ask for an order that is mixed.
    """

    count: int
    examples: Callable[[], Iterator[Example]]
    classes: tuple[str, ...]  # the names of the labels 0, 1, …


Sources = dict[str, Source]  # of the splits "train", mostly "test", and others


def of_arrays(images: Array, labels: Array, classes: tuple[str, ...]) -> Source:
    """Return the Source of images (examples, height, width, channels) and their labels."""
    return Source(
        len(labels), lambda: zip(range(len(labels)), images, labels, strict=True), classes
    )


def mnist(directory: pathlib.Path) -> Sources:
    """Read MNIST from its four IDX files, gzipped or not.

    Raises:
        InputError: a file is missing, truncated, or not what its name says.
    """
    sources = {}
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
        sources[split] = of_arrays(images[..., np.newaxis], labels, tuple("0123456789"))
    return sources


def read_idx(path: pathlib.Path, *, rank: int) -> Array:
    """Read the uint8 array of an IDX file: a big-endian magic number, `rank` sizes, the bytes."""
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


def _find(directory: pathlib.Path, stem: str, kind: str) -> pathlib.Path:
    """Return the IDX file, under any of the names it is published by."""
    names = [f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise InputError(f"{directory} lacks {names[1]}. Looked for: {', '.join(names)}.")


class _Archive(NamedTuple):
    """The files of each split, and where the fine labels are."""

    files: dict[str, list[str]]
    labels: tuple[int, int]  # in a binary record: the bytes before the pixels, and which it is
    key: bytes  # in a pickled batch


_CIFAR = {
    "cifar10": _Archive(
        {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
        (1, 0),
        b"labels",
    ),
    "cifar100": _Archive({"train": ["train"], "test": ["test"]}, (2, 1), b"fine_labels"),
}


def cifar_archives(name: str, directory: pathlib.Path) -> Sources | None:
    """Read CIFAR-10 or -100 from the published python or binary archive, packed or unpacked.

    It is None if the directory holds no such archive.

    Raises:
        InputError: a file of the archive is missing, truncated or damaged.
    """
    files = _read_archive(name, directory)
    if files is None:
        return None
    archive, sources = _CIFAR[name], {}
    for split, stems in archive.files.items():
        batches = []
        for stem in stems:
            if stem in files:
                batches.append(_read_pickle(f"{directory}: {stem}", files[stem], archive))
            elif (path := f"{stem}.bin") in files:
                batches.append(_read_binary(f"{directory}: {path}", files[path], archive))
            else:
                raise InputError(f"{directory}: the archive of {name} lacks {stem}.")
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        classes = CIFAR_CLASSES[name]
        if labels.min() < 0 or labels.max() >= len(classes):
            raise InputError(f"{directory}: expected labels 0 to {len(classes) - 1} in {split}.")
        sources[split] = of_arrays(images, labels, classes)
    return sources


def _read_archive(name: str, directory: pathlib.Path) -> dict[str, bytes] | None:
    """Return {file name: bytes} of the batches in a CIFAR archive, packed or unpacked, if any."""
    stems = [stem for stems in _CIFAR[name].files.values() for stem in stems]
    wanted = {f"{stem}{end}" for stem in stems for end in ("", ".bin")}
    for folder in (directory, *sorted(path for path in directory.glob("cifar*") if path.is_dir())):
        paths = [path for path in folder.iterdir() if path.name in wanted and path.is_file()]
        if paths:
            return {path.name: path.read_bytes() for path in paths}
    for archive in sorted(directory.glob("cifar*.tar.gz")):
        found = {}
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isfile() else None
                    if content and (file := member.name.rsplit("/")[-1]) in wanted:
                        found[file] = content.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{archive} cannot be read: {error}.") from None
        return found
    return None


def _read_binary(path: str, content: bytes, archive: _Archive) -> tuple[Array, Array]:
    """Return images (n, 32, 32, 3) and labels (n,) of a batch of records."""
    width, label = archive.labels
    record = width + 3072
    if len(content) % record or not content:
        raise InputError(f"{path}: expected records of {record} bytes. Found: {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _to_nhwc(rows[:, width:]), rows[:, label]


class _ArraysOnly(pickle.Unpickler):
    """Loads NumPy arrays and plain values; refuses to import anything else."""

    allowed = ("_reconstruct", "ndarray", "dtype", "encode", "scalar", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("numpy", "_codecs") and name in self.allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def _read_pickle(path: str, content: bytes, archive: _Archive) -> tuple[Array, Array]:
    """Return images (n, 32, 32, 3) and labels (n,) of a pickled batch."""
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[archive.key])
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise TypeError(
                f"it holds pixels of {images.dtype} and labels of {labels.dtype}, not uint8 and "
                "integers"
            )
        if not labels.size or images.shape != (labels.size, 3072):
            raise ValueError(f"it holds pixels {images.shape} for {labels.size} labels")
    except Exception as error:  # what a damaged pickle raises is of any kind
        raise InputError(f"{path} is no batch of CIFAR: {error!r}.") from error
    return _to_nhwc(images), labels


def _to_nhwc(rows: Array) -> Array:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
