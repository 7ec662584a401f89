"""Reads images by class: folders, or archives of them, for a training and a test split."""

import collections
import functools
import lzma
import os
import pathlib
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator

from lottery_tf.datasets import image_files
from lottery_tf.datasets.image_files import Listing, Reading, some
from lottery_tf.datasets.labels import check_looks
from lottery_tf.datasets.names import SPLITS as NAMES
from lottery_tf.datasets.raw import Sources
from lottery_tf.errors import InputError
from lottery_tf.terminal import console

# The folders of a split, or archives, by their names in any case; the first that exists is read.
SPLITS = {"train": NAMES["train"], "test": NAMES["test"] + NAMES["validation"]}
PACKED = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, EOFError, zlib.error)
MANY_CLASSES = 20  # beyond, a line names only the smallest and the largest


def image_folders(
    directory: pathlib.Path,
    reading: Reading,
    *,
    size: tuple[int, int] | None = None,
    small: int = 0,
    untested: bool = False,
) -> Sources:
    """Read the splits <train>/<class>/<image> and <test | val>/<class>/<image>, or their archives.

    Args:
        directory: holds the folders, or archives such as train.tar.gz.
        reading, size, small: as in image_files.sources.
        untested: whether there may be no test split; then <class>/<image> is a training split too.

    Returns:
        {"train" | "test": Source}; standard error tells the images of each class, what is ignored
        or skipped, and what reading changes.

    Raises:
        InputError: a split is missing, there are fewer than two classes or one without images,
            the splits' classes differ, or an image is unreadable or of another size; names it.
    """
    folders = _folders(directory, untested)
    _check_classes(directory, **folders)
    listings = {name: Listing(of.place, of.images, of.contents) for name, of in folders.items()}
    classes = tuple(folders["train"].classes)
    return image_files.sources(listings, classes, reading, size=size, small=small)


class Folder:
    """The images of a split in a folder or an archive, by class.

    Args:
        place: the folder, or archive, of the split.
        paths: of all files in it, with slashes.
        outer: what the paths of all images begin with, before the folder of the class.

    Attributes:
        images: {name: class}, in order of the names, which are paths without `outer`. A class is
            the first folder of a name; what lies in folders below it belongs to it too.
        ignored: {reason: names}.
        classes, empty: the folders of classes with images, and without; sorted.
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
        self.classes = sorted(set(self.images.values()))
        self.empty = sorted(folders - set(self.classes))

    def tell(self) -> None:
        """Tell how many images each class has, and what was ignored."""
        counts = collections.Counter(self.images.values())
        names, between = self.classes, ", "
        if len(names) > MANY_CLASSES:
            names, between = [pick(names, key=counts.__getitem__) for pick in (min, max)], " … "
        each = between.join(f"{name} {counts[name]}" for name in names)
        deep = sum(name.count("/") > 1 for name in self.images)
        below = f" {deep} of them in folders below that of their class." if deep else ""
        console.say(
            f"{self.place}: {len(self.images)} images of {len(counts)} classes: {each}.{below}"
        )
        if self.ignored:
            reasons = [f"{len(names)} {why} ({some(names)})" for why, names in self.ignored.items()]
            console.say(f"{self.place}: ignored files: {'; '.join(reasons)}.")

    def contents(self) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield (name, bytes) of each image, once, as the folder or archive has them.

        In place of the bytes of a file that cannot be read stands the error.

        Raises:
            InputError: the archive cannot be read.
        """
        files: Iterable[tuple[str, Callable[[], bytes]]]
        if self.place.is_dir():
            files = ((name, (self.place / name).read_bytes) for name in self.images)
        else:
            files = ((path.removeprefix(self.outer), read) for path, read in _members(self.place))
        missing = set(self.images)
        for name, read in files:
            if name not in missing:
                continue
            missing.remove(name)  # an archive may hold a file twice
            content: bytes | OSError
            try:
                content = read()
            except OSError as error:
                content = error
            except (*DAMAGE, RuntimeError, NotImplementedError) as error:  # encrypted, packed oddly
                content = OSError(None, str(error))
            yield name, content


def find(directory: pathlib.Path, split: str) -> tuple[Folder, list[pathlib.Path]]:
    """Return the Folder of a split, and further places of one that it does not look into.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    found = _places(directory, split)
    if not found:
        raise InputError(
            f"{directory} lacks {split}/ or {split}.tar.gz with a folder of images for each class."
        )
    place, *others = found
    names = _walk(place) if place.is_dir() else [name for name, _ in _members(place)]
    outer = "" if place.is_dir() else _outer(names)
    return Folder(place, names, outer), others


def _places(directory: pathlib.Path, split: str) -> list[pathlib.Path]:
    """Return the folders and archives that have a name of a split, the one to be read first."""
    wanted = [f"{choice}{end}" for choice in SPLITS[split] for end in ("", *PACKED)]
    found = [place for place in directory.iterdir() if place.name.lower() in wanted]
    return sorted(
        (place for place in found if place.exists()),
        key=lambda place: (wanted.index(lower := place.name.lower()), place.name != lower, place),
    )


def _walk(folder: pathlib.Path) -> list[str]:
    """Return the paths of all files below a folder, and of empty classes; links are followed."""
    names = []
    for root, folders, files in os.walk(folder, followlinks=True):
        here = pathlib.Path(root)
        for inner in [here / name for name in folders]:
            if inner.is_symlink() and here.resolve().is_relative_to(inner.resolve()):
                folders.remove(inner.name)  # it would never end
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


def _members(archive: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (path, a function that reads it) of each file of an archive, in its order."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as file:
                for info in file.infolist():
                    if not info.is_dir():
                        path = info.filename.replace("\\", "/")  # of some packers on Windows
                        yield _inside(path), functools.partial(file.read, info)
            return
        with tarfile.open(archive, tarinfo=_Member) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content:
                    yield _inside(member.name), content.read
    except (*DAMAGE, OSError) as error:
        raise InputError(f"{archive} cannot be read: {error}.") from None


def _inside(path: str) -> str:
    """Return the path of a member, which is only a name here: nothing is written under it."""
    return str(pathlib.PurePosixPath(path.lstrip("/")))


def _outer(names: Iterable[str]) -> str:
    """Return the folders around those of classes in an archive, as train/: all images are there."""
    endings = image_files.endings()
    shown = (pathlib.PurePosixPath(name) for name in names if not is_hidden(name))
    images = [path.parts for path in shown if path.suffix.lower() in endings]
    outer = ""
    while len({parts[0] for parts in images}) == 1 and max(map(len, images)) > 2:
        outer += f"{images[0][0]}/"
        images = [parts[1:] for parts in images if len(parts) > 2]
    return outer


def is_hidden(name: str) -> bool:
    """Return whether a file is one that systems and programs keep for themselves."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folders(directory: pathlib.Path, untested: bool) -> dict[str, Folder]:
    """Return {split: Folder}; say what is in each, and what is not read."""
    existing = [split for split in SPLITS if _places(directory, split)]
    if not existing and untested:
        entries = sorted(path.name for path in directory.iterdir())
        for name in entries:
            inner = directory / name
            if inner.is_dir() and not is_hidden(name) and _places(inner, "train"):
                raise InputError(
                    f"{directory} lacks train/ or train.tar.gz. {name} has one: name it by "
                    f"--raw_dir={inner}."
                )
        whole = Folder(directory, _walk(directory))
        if len(whole.classes) < 2:
            raise InputError(
                f"{directory} lacks train/ or train.tar.gz, or a folder of images for each of two "
                f"or more classes. Found: {some(entries) or 'nothing'}.{_advice(entries)}"
            )
        whole.tell()
        return {"train": whole}
    folders = {}
    for split in existing if existing == ["train"] and untested else SPLITS:
        folders[split], others = find(directory, split)
        folders[split].tell()
        for other in others:
            console.say(f"{other} is not read: {folders[split].place} is the {split} split.")
    return folders


def _advice(found: list[str]) -> str:
    """Return what to do with files that are not laid out by class."""
    for name in found:
        if name.lower().endswith((".csv", ".tsv")):
            return (
                f" If {name} says the class of each image: move each into a folder that is named "
                "after its class, as docs/guides/data.md shows under Labels in a CSV file."
            )
    packed = [name for name in found if name.lower().endswith(PACKED)]
    return f" Unpack {packed[0]}, and name the folder by --raw_dir." if packed else ""


def _check_classes(directory: pathlib.Path, train: Folder, test: Folder | None = None) -> None:
    for split in filter(None, (train, test)):
        if split.empty:
            raise InputError(
                f"{split.place}: expected images in the folder of each class. Found none in "
                f"{', '.join(split.empty)}: remove such a folder, if it is none of a class."
            )
        odd = [name for name in split.classes if not name.isprintable()]
        if odd:
            raise InputError(
                f"{split.place}: expected names of printable characters for classes. Found: "
                f"{odd[0]!a}"
            )
        check_looks(str(split.place), split.classes)
    if len(train.classes) < 2:
        tables = sorted(path.name for path in directory.glob("*.csv"))
        raise InputError(
            f"{directory}: expected a folder for each of two or more classes in train. Found: "
            f"{', '.join(train.classes) or 'none'}.{_advice(tables)}"
        )
    if test and train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        look_alike = len({unicodedata.normalize("NFC", name) for name in odd}) < len(odd)
        names = ", ".join(map(ascii if look_alike else str, odd))
        raise InputError(f"{directory}: the classes of train and test differ: {names}.")
