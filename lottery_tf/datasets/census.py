"""Counts what a dataset holds of each class, and finds images that it holds twice."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from lottery_tf.datasets.labels import shortened
from lottery_tf.datasets.layout import Fields
from lottery_tf.datasets.splits import Split
from lottery_tf.terminal import console

SHOWN = 3  # pairs of images in a line
MOST = 200_000  # examples among which equal images are searched for
IN_TWO_CLASSES = "in more than one class"
IN_TWO_SPLITS = (
    "in the {} split and in another one too, so the accuracy on one counts images of the other"
)


@dataclasses.dataclass
class Pairs:
    """The number of pairs of equal images, and the first of them in words."""

    count: int = 0
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, pair: str) -> None:
        """Count a pair."""
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(pair)

    def __str__(self) -> str:
        return "; ".join(self.first) + ("; …" if self.count > SHOWN else "")


class Census:
    """The images of each class, and those of the same content.

    Only equal bytes count as the same image: of arrays their pixels, of files their content.

    Args:
        classes: the names of the labels.
        examples: how many there are in all splits. Where there are more than MOST, equal images
            are not searched for.
    """

    def __init__(self, classes: Sequence[str], examples: int):
        self.classes, self.searches = classes, examples <= MOST
        self.counts: dict[str, collections.Counter[int]] = collections.defaultdict(
            collections.Counter
        )
        self.first: dict[bytes, tuple[str, object, int]] = {}  # by the digest of the content
        self.pairs: dict[str, Pairs] = collections.defaultdict(Pairs)  # by what is wrong with them

    def add(self, split: str, name: object, content: bytes, label: int) -> None:
        """Count an example; `name` says which of the split it is."""
        if label < 0:  # of a split whose labels are not published
            return
        self.counts[split][label] += 1
        if not self.searches:
            return
        digest = hashlib.blake2b(content, digest_size=16).digest()
        earlier = self.first.setdefault(digest, (split, name, label))
        pair = f"{earlier[1]} ({earlier[0]}) and {name} ({split})"
        if earlier[2] != label:
            self.pairs[IN_TWO_CLASSES].add(pair)
        if earlier[0] != split:
            self.pairs[IN_TWO_SPLITS.format(split)].add(pair)

    def tell(self, what: str) -> None:
        """Tell which classes have no images, and which images the dataset holds twice."""
        for split, counts in self.counts.items():
            empty = [name for label, name in enumerate(self.classes) if not counts[label]]
            if empty:
                console.say(
                    f"{what}: {len(empty)} of the {len(self.classes)} classes have no image in the "
                    f"{split} split, though a network has an output for each: {shortened(empty)}."
                )
        if not self.searches:
            console.say(
                f"{what}: equal images were not searched for, as there are more than {MOST:,} "
                "examples."
            )
        for wrong, pairs in self.pairs.items():
            count = "1 image is" if pairs.count == 1 else f"{pairs.count} images are"
            console.say(f"{what}: {count} {wrong}: {pairs}.")


def of_records(splits: dict[str, Split], fields: Fields, classes: Sequence[str]) -> Census:
    """Return the Census of a prepared dataset, from the records as they are stored."""
    census = Census(classes, sum(split.examples for split in splits.values()))
    for name, split in splits.items():
        records = console.progress(_records(split, fields), f"reading {name}")
        for place, (image, label) in enumerate(records):
            content = image.SerializeToString() if census.searches else b""
            census.add(name, f"example {place}", content, label)
    return census


def _records(split: Split, fields: Fields) -> Iterator[tuple[tf.train.Feature, int]]:
    """Yield (image as stored, label) of each example."""
    paths = [str(shard.path) for shard in split.shards]
    for record in tf.data.TFRecordDataset(paths).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        image, label = feature[fields.image_key], feature[fields.label_key].int64_list.value
        yield image, label[0] if label else -1
