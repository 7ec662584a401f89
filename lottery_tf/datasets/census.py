"""Counts what a dataset holds of each class, and finds images that it holds twice."""

import collections
import hashlib
from collections.abc import Sequence

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


class Census:
    """The images of each class, and those of the same content.

    Only equal bytes count as the same image: of arrays their pixels, of files their content. Where
    there are more than MOST examples in all splits, equal images are not searched for.
    """

    def __init__(self, classes: Sequence[str], examples: int):
        self.classes, self.searches = classes, examples <= MOST
        self.counts: dict[str, collections.Counter[int]] = collections.defaultdict(
            collections.Counter
        )
        self.first: dict[bytes, tuple[str, object, int]] = {}  # by the digest of the content
        self.pairs: collections.Counter[str] = collections.Counter()  # by what is wrong with them
        self.shown: dict[str, list[str]] = collections.defaultdict(list)  # the first of each

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
        wrong = [IN_TWO_CLASSES] if earlier[2] != label else []
        wrong += [IN_TWO_SPLITS.format(split)] if earlier[0] != split else []
        for words in wrong:
            self.pairs[words] += 1
            if self.pairs[words] <= SHOWN:
                self.shown[words].append(pair)

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
        for wrong, count in self.pairs.items():
            images = "1 image is" if count == 1 else f"{count} images are"
            pairs = "; ".join(self.shown[wrong]) + ("; …" if count > SHOWN else "")
            console.say(f"{what}: {images} {wrong}: {pairs}.")


def of_records(splits: dict[str, Split], fields: Fields, classes: Sequence[str]) -> Census:
    """Return the Census of a prepared dataset, from the records as they are stored."""
    census = Census(classes, sum(split.examples for split in splits.values()))
    for name, split in splits.items():
        records = tf.data.TFRecordDataset([str(shard.path) for shard in split.shards])
        shown = console.progress(records.as_numpy_iterator(), f"reading {name}")
        for place, record in enumerate(shown):
            feature = tf.train.Example.FromString(record).features.feature
            image, label = feature[fields.image_key], feature[fields.label_key].int64_list.value
            content = image.SerializeToString() if census.searches else b""
            census.add(name, f"example {place}", content, label[0] if label else -1)
    return census
