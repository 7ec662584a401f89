"""Which examples a run trains on and which it is evaluated on. NumPy and stdlib only."""

import dataclasses
import pathlib
import zlib
from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, streams

RECORD_OVERHEAD = 16  # bytes of a record beside its data: lengths and checksums


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file, the number of its examples, and which of them are used.

    Args:
        used: how many.
        chosen: their places in the file, int64 (used,), ascending; None: the first `used`.
    """

    path: pathlib.Path
    examples: int
    used: int
    chosen: Array | None = dataclasses.field(default=None, compare=False)

    @property
    def taken(self) -> Any:
        """What picks the used ones from an array of all examples."""
        return slice(self.used) if self.chosen is None else self.chosen

    def pick(self, places: Array) -> "Shard":
        """The shard with the used examples at some places, ascending."""
        chosen = places if self.chosen is None else self.chosen[places]
        return dataclasses.replace(self, used=len(chosen), chosen=chosen)

    def first(self, count: int) -> "Shard":
        """The shard with the first `count` of its used examples."""
        chosen = None if self.chosen is None else self.chosen[:count]
        return dataclasses.replace(self, used=min(self.used, count), chosen=chosen)


@dataclasses.dataclass(frozen=True)
class Split:
    """The shards of a split, in their order."""

    shards: tuple[Shard, ...]

    @property
    def examples(self) -> int:
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """The used examples of each shard."""
        return [shard.used for shard in self.shards]

    def first(self, count: int) -> "Split":
        """The split's first `count` examples."""
        taken: list[Shard] = []
        for shard in self.shards:
            left = count - sum(shard.used for shard in taken)
            if min(shard.used, left):
                taken.append(shard.first(left))
        return Split(tuple(taken))

    def pick(self, chosen: Array) -> "Split":
        """The examples at some places of a split, of those that are used.

        Args:
            chosen: int64 (examples,), ascending.
        """
        bounds = np.searchsorted(chosen, np.cumsum([0, *self.lengths]))
        starts = np.cumsum([0, *self.lengths])
        shards = [
            shard.pick(chosen[start:stop] - first)
            for shard, start, stop, first in zip(
                self.shards, bounds, bounds[1:], starts, strict=False
            )
        ]
        return Split(tuple(shard for shard in shards if shard.used))


def hold_out(split: Split, fraction: float, flag: str = "--test_fraction"
             ) -> tuple[Split, Split]:  # fmt: skip
    """(the rest, the part of a split that is held out): drawn once, the same for every seed.

    Args:
        split: Split.
        fraction: of its examples.
        flag: --test_fraction or --validation_fraction, which asks for it.

    Raises:
        InputError: one of them is empty.
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
    path: pathlib.Path, splits: dict[str, Split], config: Any, evaluation: str
) -> dict[str, Split]:
    """{"train": Split, "test": Split, perhaps "validation": Split}, as a Config's flags choose.

    Args:
        path: of the dataset.
        splits: {name: Split}, all that it has.
        config: its train_split, test_split, test_fraction, validation_fraction and train_examples
            are read.
        evaluation: the split to evaluate on if no flag names one.

    Raises:
        InputError: there is no such split, it is empty, its files are not there, or it would be
            trained on and tested on.
    """
    names = config.train_split.split("+")
    train = _joined(path, splits, "--train_split", names)
    if config.test_fraction:
        train, test = hold_out(train, config.test_fraction)
    else:
        test_names = _test_names(path, splits, config, evaluation)
        if shared := set(names) & set(test_names):
            raise InputError(
                f"{path}: {', '.join(sorted(shared))} would be trained on and tested on. Name "
                f"another --test_split, or hold out a part by --test_fraction=0.1. Found: "
                f"{_names(splits)}"
            )
        test = _joined(path, splits, "--test_split", test_names)
    found = {"train": train, "test": test}
    if config.validation_fraction:
        train, found["validation"] = hold_out(
            train, config.validation_fraction, "--validation_fraction"
        )
    if config.train_examples:
        if config.train_examples > train.examples:
            raise InputError(
                f"--train_examples: expected at most {train.examples}, the training "
                f"split of {config.dataset}. Received: {config.train_examples}"
            )
        train = train.first(config.train_examples)
    return found | {"train": train}


def _test_names(path, splits, config, evaluation):
    if config.test_split:
        return config.test_split.split("+")
    for name in (evaluation, "test", "validation"):
        if name in splits:
            return [name]
    raise InputError(
        f"{path} has no test split. Found: {_names(splits)}. Hold out a part of the training split "
        "by --test_fraction=0.1, or name a split by --test_split."
    )


def _joined(path, splits, flag, names):
    """The splits of some names, one after the other."""
    for name in names:
        if name not in splits:
            raise InputError(
                f"{path} has no {name} split. Found: {_names(splits)}. Name those to use by "
                f"{flag}, several as {flag}=train+extra."
            )
        if not splits[name].examples:
            raise InputError(f"{path}: its {name} split has no examples.")
    if len(set(names)) < len(names):
        raise InputError(f"{flag}: expected each split once. Received: {'+'.join(names)}")
    shards = tuple(shard for name in names for shard in splits[name].shards)
    for shard in shards:
        _check_file(shard)
    return Split(shards)


def _check_file(shard):
    try:
        size = shard.path.stat().st_size if shard.path.is_file() else -1
    except (OSError, ValueError):  # no name that a file can have
        size = -1
    if size < 0:
        packed = shard.path.with_name(f"{shard.path.name}.gz")
        if is_packed(packed):
            raise compressed(packed)
        raise InputError(f"The dataset lacks {shard.path}. Prepare it again.")
    if size < shard.examples * RECORD_OVERHEAD and is_packed(shard.path):
        raise compressed(shard.path)
    if size < shard.examples * RECORD_OVERHEAD:
        raise InputError(
            f"{shard.path} has {size} bytes, too few for the {shard.examples} examples that "
            "dataset_info.json says. Prepare the dataset again."
        )


def is_packed(path: pathlib.Path) -> bool:
    """Return whether a file is TFRecords that were compressed by gzip or zlib."""
    try:
        with open(path, "rb") as file:
            content = zlib.decompressobj(wbits=47).decompress(file.read(1024))  # 47: both formats
    except (OSError, ValueError, zlib.error):
        return False
    return len(content) >= RECORD_OVERHEAD and content[4:8] == bytes(4)  # a record's length


def compressed(path: pathlib.Path) -> InputError:
    """Return the InputError that a shard is compressed."""
    return InputError(
        f"{path} is compressed by gzip or zlib. Expected TFRecord files as TensorFlow Datasets "
        "writes them, uncompressed. Of gzip: gunzip each, under the name that ends in no .gz."
    )


def _names(splits):
    return ", ".join(splits) or "none"
