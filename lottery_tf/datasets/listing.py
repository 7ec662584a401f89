"""Which files of a split are images of a class, and which are left out, and why."""

import collections
import lzma
import os
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

from lottery_tf.datasets import image_files
from lottery_tf.errors import InputError

# The folders of a split, or archives, by their names in any case; the first that is there is read.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
PACKED = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, EOFError, zlib.error)
MANY_CLASSES = 20  # beyond, a line names only the smallest and the largest


class Listing:
    """The images of a split, by class.

    Args:
        place: the folder, or archive, of the split.
        paths: of all files in it, with slashes.
        outer: what the paths of all images begin with, before the folder of the class.

    Attributes:
        images: {name: class}, in order of the names, which are paths without `outer`. A class is
            the first folder of a name; what lies in folders below it belongs to it too.
        ignored: {reason: names}.
        empty: the folders of classes in which there is no image.
    """

    def __init__(self, place: pathlib.Path, paths: Iterable[str], outer: str = ""):
        self.place, self.outer = place, outer
        self.images: dict[str, str] = {}
        self.ignored: dict[str, list[str]] = collections.defaultdict(list)
        folders, endings = set(), image_files.endings()
        for name in sorted(path.removeprefix(outer) for path in paths):
            folder, _, file = name.rpartition("/")
            ending = pathlib.PurePosixPath(file).suffix.lower()
            if is_hidden(name):
                self.ignored["hidden"].append(name)
                continue
            if folder:
                folders.add(name.split("/")[0])
            if file and ending not in endings:
                reason = f"with the ending {ending}" if ending else "without an ending"
                self.ignored[reason].append(name)
            elif file and not folder:
                self.ignored["outside the folders of classes"].append(name)
            elif file:
                self.images[name] = name.split("/")[0]
        self.empty = sorted(folders - set(self.images.values()))

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return sorted(set(self.images.values()))

    def describe(self) -> list[str]:
        """Lines that say how many images each class has, and what was ignored."""
        counts = collections.Counter(self.images.values())
        names = sorted(counts)
        if len(names) > MANY_CLASSES:
            names = [min(names, key=counts.__getitem__), max(names, key=counts.__getitem__)]
        each = (" … " if len(counts) > len(names) else ", ").join(
            f"{name} {counts[name]}" for name in names
        )
        deep = sum(name.count("/") > 1 for name in self.images)
        below = f" {deep} of them in folders below that of their class." if deep else ""
        lines = [
            f"{self.place}: {len(self.images)} images of {len(counts)} classes: {each}.{below}"
        ]
        if self.ignored:
            reasons = [f"{len(names)} {why} ({some(names)})" for why, names in self.ignored.items()]
            lines.append(f"{self.place}: ignored files: {'; '.join(reasons)}.")
        return lines

    def contents(self) -> Iterator[tuple[str, bytes | OSError]]:
        """(name, bytes) of each image, once, as the folder or archive has them.

        In place of the bytes of a file that cannot be read stands the error.

        Raises:
            InputError: the archive cannot be read.
        """
        if self.place.is_dir():
            for name in self.images:
                yield name, _bytes((self.place / name).read_bytes)
            return
        missing = set(self.images)
        for path, read in _members(self.place):
            name = path.removeprefix(self.outer)
            if name in missing:
                missing.remove(name)  # an archive may hold a file twice
                yield name, _bytes(read)


def _bytes(read):
    try:
        return read()
    except OSError as error:
        return error
    except (*DAMAGE, RuntimeError, NotImplementedError) as error:  # encrypted, or packed oddly
        return OSError(None, str(error))


def some(names: Sequence[str]) -> str:
    """The first two of the names."""
    return ", ".join(names[:2]) + (", …" if names[2:] else "")


def places(directory: pathlib.Path, split: str) -> list[pathlib.Path]:
    """The folders and archives in a directory that have a name of a split, the first to be read."""
    found = sorted(place for place in directory.iterdir() if place.exists())
    wanted = [f"{choice}{end}" for choice in SPLITS[split] for end in ("", *PACKED)]
    return [
        place
        for name in wanted
        for place in sorted(found, key=lambda place: place.name != name)
        if place.name.lower() == name
    ]


def find(directory: pathlib.Path, split: str) -> tuple[Listing, list[pathlib.Path]]:
    """The Listing of a split, and further places of one that it does not look into.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    found = places(directory, split)
    if not found:
        raise InputError(
            f"{directory} lacks {split}/ or {split}.tar.gz with a folder of images for each class."
        )
    place, *others = found
    names = _walk(place) if place.is_dir() else [name for name, _ in _members(place)]
    outer = "" if place.is_dir() else _outer(names)
    return Listing(place, names, outer), others


def of_folder(folder: pathlib.Path) -> Listing:
    """The Listing of a folder that holds those of the classes."""
    return Listing(folder, _walk(folder))


def _walk(folder):
    """The paths of all files below a folder, links followed."""
    names = []
    for root, folders, files in os.walk(folder, followlinks=True):
        here = pathlib.Path(root)
        folders[:] = [
            name
            for name in folders
            if not (here / name).is_symlink()
            or not here.resolve().is_relative_to((here / name).resolve())  # it would never end
        ]
        names += [str((here / name).relative_to(folder)) for name in files]
        if not files and here.parent == folder:
            names.append(f"{here.name}/")
    return names


class _Member(tarfile.TarInfo):
    """A file of an archive; a damaged or missing header is an error, and not the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from None


def _members(archive):
    """(path, a function that reads it) of each file of an archive, in its order."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as file:
                for member in file.infolist():
                    if not member.is_dir():
                        path = member.filename.replace("\\", "/")  # of some packers on Windows
                        yield _inside(path), lambda member=member: file.read(member)
            return
        with tarfile.open(archive, tarinfo=_Member) as tar:
            for member in tar:
                if member.isfile():
                    yield _inside(member.name), lambda member=member: tar.extractfile(member).read()
    except (*DAMAGE, OSError) as error:
        raise InputError(f"{archive} cannot be read: {error}.") from None


def _inside(path):
    """The path of a member, which is only a name here: nothing is written under it."""
    return str(pathlib.PurePosixPath(path.lstrip("/")))


def _outer(names):
    """The folders around those of classes in an archive, as train/: all images lie in them."""
    endings = image_files.endings()
    images = [
        pathlib.PurePosixPath(name).parts
        for name in names
        if pathlib.PurePosixPath(name).suffix.lower() in endings and not is_hidden(name)
    ]
    outer = ""
    while len({parts[0] for parts in images}) == 1 and max(map(len, images)) > 2:
        outer += f"{images[0][0]}/"
        images = [parts[1:] for parts in images]
        images = [parts for parts in images if len(parts) > 1]
    return outer


def is_hidden(name: str) -> bool:
    """Return whether a file is one that systems and programs keep for themselves."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
