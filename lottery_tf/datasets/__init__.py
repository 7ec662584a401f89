"""The datasets, by name; a dataset is one line here and, to prepare it, one in prepare.

This module imports no framework: a name can be checked before TensorFlow is loaded.
"""

import dataclasses
import json
import pathlib
from typing import Any

from lottery_tf.errors import InputError

# name: module:function of (images of one size, draws), run on the device on whole batches.
AUGMENTATIONS = {
    "none": "lottery_tf.datasets.augmentation:none",
    "flip": "lottery_tf.datasets.augmentation:flip",
    "flip_crop": "lottery_tf.datasets.augmentation:flip_crop",
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How the images of a dataset become inputs: augmented, then (pixel / 255 - mean) / std.

    Args:
        mean, std: per channel; None: of the first training images (see statistics).
        augment: a key of AUGMENTATIONS.
        evaluation: the split that stands for "test" where there is one of this name; the test
            split of ImageNet has no labels.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: str = "none"
    evaluation: str = "test"


DATASETS = {
    # Mean and standard deviation over the pixels of the training split.
    "digits": Dataset((0.3052,), (0.3760,)),
    "mnist": Dataset((0.1307,), (0.3081,)),
    "cifar10": Dataset((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "flip_crop"),
    "cifar100": Dataset((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), "flip_crop"),
    "imagenet2012": Dataset(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "flip", evaluation="validation"
    ),
}
USERS_OWN = Dataset()
EMBEDDED = "digits"  # comes with the package


def packaged(name: str) -> pathlib.Path:
    """A directory that comes with the package: inside it in a wheel, beside it in a checkout."""
    package = pathlib.Path(__file__).parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file, the number of its examples, and how many of them, from the first, are used."""

    path: pathlib.Path
    examples: int
    used: int


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
            used = min(shard.used, count - sum(shard.used for shard in taken))
            if used:
                taken.append(dataclasses.replace(shard, used=used))
        return Split(tuple(taken))


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A dataset on disk in TensorFlow Datasets' layout.

    Args:
        image_shape: (height, width, channels) as stored; height and width are None if they vary.
        input_shape: the same as the network sees it.
    """

    path: pathlib.Path
    splits: dict[str, Split]
    image_shape: tuple[int | None, int | None, int]
    input_shape: tuple[int, int, int]
    classes: int

    @property
    def one_size(self) -> bool:
        """Whether all images have one size."""
        return self.image_shape[0] is not None


def is_directory(dataset: str) -> bool:
    """Whether a --dataset is a directory of the user's."""
    return bool(_infos(pathlib.Path(dataset)))


def _infos(path):
    return sorted([*path.glob("dataset_info.json"), *path.glob("*/dataset_info.json")])


def find(config: Any) -> PreparedDataset:
    """The PreparedDataset of config.dataset, below config.data_dir if it is a name.

    The embedded digits are found wherever the package is. Reads two JSON files.

    Raises:
        InputError: there is no such dataset, or not the files that it says it has.
    """
    named = config.dataset in DATASETS
    looked_in = pathlib.Path(config.data_dir if named else ".") / config.dataset
    infos = _infos(looked_in)
    if not infos and config.dataset == EMBEDDED:
        infos = _infos(packaged("data") / EMBEDDED)
    if not infos:
        raise InputError(
            f"There is no dataset {config.dataset} in {looked_in}. Prepare it with "
            "lottery-prepare-data, or in a checkout\n"
            f"  python -m tools.prepare_data --dataset={config.dataset} --source=tfds "
            f"--data_dir={config.data_dir}"
        )
    if len(infos) > 1:
        found = ", ".join(str(info.parent) for info in infos)
        raise InputError(f"Expected one version of {config.dataset}. Found: {found}")
    return _read(infos[0].parent, config)


def _read(path, config):
    try:
        info = json.loads((path / "dataset_info.json").read_text())
        features = json.loads((path / "features.json").read_text())["featuresDict"]["features"]
        splits = {split["name"]: _split(path, info["name"], split) for split in info["splits"]}
        dimensions = features["image"]["image"]["shape"]["dimensions"]
        height, width, channels = (int(size) if int(size) > 0 else None for size in dimensions)
        classes = int(features["label"]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not a dataset of images and labels as TensorFlow Datasets writes them: "
            f"{error!r}."
        ) from None
    evaluation = DATASETS.get(config.dataset, USERS_OWN).evaluation
    for name in (evaluation, "test", "validation"):
        if name in splits:
            splits["test"] = splits[name]
            break
    for split in ("train", "test"):
        if split not in splits:
            raise InputError(f"{path} has no {split} split. Found: {', '.join(splits)}")
    if config.train_examples:
        if config.train_examples > splits["train"].examples:
            raise InputError(
                f"--train_examples: expected at most {splits['train'].examples}, the training "
                f"split of {config.dataset}. Received: {config.train_examples}"
            )
        splits["train"] = splits["train"].first(config.train_examples)
    size = config.image_size
    input_shape = (height, width, channels) if height else (size, size, channels)
    return PreparedDataset(path, splits, (height, width, channels), input_shape, classes)


def _split(path, dataset, info):
    lengths = [int(length) for length in info["shardLengths"]]
    template = info.get("filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    shards = []
    for index, length in enumerate(lengths):
        shard = path / template.format(
            DATASET=dataset,
            SPLIT=info["name"],
            FILEFORMAT="tfrecord",
            SHARD_X_OF_Y=f"{index:05d}-of-{len(lengths):05d}",
        )
        if not shard.is_file():
            raise InputError(f"The dataset lacks {shard}. Prepare it again.")
        shards.append(Shard(shard, length, length))
    return Split(tuple(shards))
