"""Chooses the examples that a run trains on and is evaluated on. NumPy and stdlib only."""

import dataclasses
import pathlib
import zlib
from collections.abc import Container, Iterable, Sequence
from typing import Protocol

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, streams

RECORD_OVERHEAD = 16  # bytes of a record beside its data: lengths and checksums


class DataFlags(Protocol):
    """The flags that choose a dataset, its examples and augmentation; a Config has them."""

    @property
    def dataset(self) -> str: ...
    @property
    def data_dir(self) -> str: ...
    @property
    def image_key(self) -> str: ...
    @property
    def label_key(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def augment(self) -> str: ...
    @property
    def train_split(self) -> str: ...
    @property
    def test_split(self) -> str: ...
    @property
    def test_fraction(self) -> float | None: ...
    @property
    def validation_fraction(self) -> float | None: ...
    @property
    def train_examples(self) -> int | None: ...


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file, the number of its examples, and which of them are used.

    Args:
        used: how many are used.
        chosen: their places in the file, int64 (used,), ascending; None: the first `used`.
    """

    path: pathlib.Path
    examples: int
    used: int
    chosen: Array | None = dataclasses.field(default=None, compare=False)

    @property
    def taken(self) -> slice | Array:
        """The index that picks the used examples from an array of all examples."""
        return slice(self.used) if self.chosen is None else self.chosen

    def pick(self, places: Array) -> "Shard":
        """Return the shard with the used examples at these places, which ascend."""
        chosen = places if self.chosen is None else self.chosen[places]
        are_first = not len(chosen) or chosen[-1] == len(chosen) - 1
        return dataclasses.replace(self, used=len(chosen), chosen=None if are_first else chosen)


@dataclasses.dataclass(frozen=True)
class Split:
    """The shards of a split, in their order."""

    shards: tuple[Shard, ...]

    @property
    def examples(self) -> int:
        """How many examples are used."""
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """The used examples of each shard."""
        return [shard.used for shard in self.shards]

    def pick(self, chosen: Array) -> "Split":
        """Return the split with the used examples at these places, int64 (some,), ascending."""
        starts = np.cumsum([0, *self.lengths])
        bounds = np.searchsorted(chosen, starts)
        shards = [
            shard.pick(chosen[start:stop] - first)
            for shard, start, stop, first in zip(
                self.shards, bounds, bounds[1:], starts, strict=False
            )
        ]
        return Split(tuple(shard for shard in shards if shard.used))


def hold_out(split: Split, fraction: float, flag: str = "--test_fraction") -> tuple[Split, Split]:
    """Return the rest of a split and the part that is held out, the same for every seed.

    Args:
        fraction: the part of the examples to hold out.
        flag: --test_fraction or --validation_fraction, which asks for it.

    Raises:
        InputError: one of the two is empty.
    """
    examples = split.examples
    count = round(fraction * examples)
    if not 0 < count < examples:
        raise InputError(
            f"{flag}={fraction} of {examples} examples leaves {examples - count} to train "
            f"on and {count} to test on; expected one of each at least."
        )
    generator = streams.held_out() if flag == "--test_fraction" else streams.validation()
    order = generator.permutation(examples)
    held, rest = np.sort(order[:count]), np.sort(order[count:])
    return split.pick(rest), split.pick(held)


def choose(
    path: pathlib.Path, splits: dict[str, Split], flags: DataFlags, evaluation: str
) -> dict[str, Split]:
    """Return {"train": Split, "test": Split, perhaps "validation": Split}, as the flags choose.

    Args:
        path: the directory of the dataset.
        splits: all that it has.
        flags: the Config.
        evaluation: the split to evaluate on if no flag names one.

    Raises:
        InputError: there is no such split, it is empty, its files are missing, or it would be
            trained on and tested on.
    """
    names = flags.train_split.split("+")
    train = _joined(path, splits, "--train_split", names)
    if flags.test_fraction:
        train, test = hold_out(train, flags.test_fraction)
    else:
        named = flags.test_split or usual_test(splits, evaluation)
        if not named:
            raise InputError(
                f"{path} has no test split. Found: {_listed(splits)}. Hold out a part of the "
                "training split by --test_fraction=0.1, or name a split by --test_split."
            )
        test_names = named.split("+")
        if shared := set(names) & set(test_names):
            raise InputError(
                f"{path}: {', '.join(sorted(shared))} would be trained on and tested on. Name "
                f"another --test_split, or hold out a part by --test_fraction=0.1. Found: "
                f"{_listed(splits)}"
            )
        test = _joined(path, splits, "--test_split", test_names)
    found = {"train": train, "test": test}
    if flags.validation_fraction:
        train, found["validation"] = hold_out(
            train, flags.validation_fraction, "--validation_fraction"
        )
    if flags.train_examples:
        if flags.train_examples > train.examples:
            raise InputError(
                f"--train_examples: expected at most {train.examples}, the training "
                f"split of {flags.dataset}. Received: {flags.train_examples}"
            )
        train = train.pick(np.arange(flags.train_examples))
    return found | {"train": train}


def usual_test(names: Container[str], evaluation: str) -> str | None:
    """Return the split to evaluate on if no flag names one; None if there is none."""
    return next((name for name in (evaluation, "test", "validation") if name in names), None)


def _joined(path: pathlib.Path, splits: dict[str, Split], flag: str, names: Sequence[str]) -> Split:
    """Return the splits of these names, one after the other; InputError if a file is missing."""
    for name in names:
        if name not in splits:
            raise InputError(
                f"{path} has no {name} split. Found: {_listed(splits)}. Name those to use by "
                f"{flag}, several as {flag}=train+extra."
            )
        if not splits[name].examples:
            raise InputError(f"{path}: its {name} split has no examples.")
    if len(set(names)) < len(names):
        raise InputError(f"{flag}: expected each split once. Received: {'+'.join(names)}")
    shards = tuple(shard for name in names for shard in splits[name].shards)
    for shard in shards:
        try:
            size = shard.path.stat().st_size if shard.path.is_file() else -1
        except (OSError, ValueError):  # no name that a file can have
            size = -1
        if size < 0:
            refuse_packed(shard.path.with_name(f"{shard.path.name}.gz"))
            raise InputError(f"The dataset lacks {shard.path}. Prepare it again.")
        if size < shard.examples * RECORD_OVERHEAD:
            refuse_packed(shard.path)
            raise InputError(
                f"{shard.path} has {size} bytes, too few for the {shard.examples} examples that "
                "dataset_info.json says. Prepare the dataset again."
            )
    return Split(shards)


def refuse_packed(path: pathlib.Path) -> None:
    """Raise InputError if a file is TFRecords that were compressed by gzip or zlib."""
    try:
        with open(path, "rb") as file:
            content = zlib.decompressobj(wbits=47).decompress(file.read(1024))  # 47: both formats
    except (OSError, ValueError, zlib.error):
        return
    if len(content) >= RECORD_OVERHEAD and content[4:8] == bytes(4):  # a record's length
        raise InputError(
            f"{path} is compressed by gzip or zlib. Expected TFRecord files as TensorFlow Datasets "
            "writes them, uncompressed. Of gzip: gunzip each, under the name that ends in no .gz."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
