"""The datasets, by name; a dataset is one line here and, to prepare it, one function in prepare.

This module imports no framework: a name can be checked before TensorFlow is loaded.
"""

import dataclasses
import json
import pathlib

from lottery_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How the images of a dataset become inputs: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


DATASETS = {
    # Mean and standard deviation over the pixels of the training split.
    "digits": Dataset(mean=(0.3052,), std=(0.3760,)),
    "mnist": Dataset(mean=(0.1307,), std=(0.3081,)),
}


@dataclasses.dataclass(frozen=True)
class Split:
    """The shards of a split: (path, number of examples) of each, in their order."""

    shards: tuple[tuple[pathlib.Path, int], ...]

    @property
    def examples(self):
        return sum(length for _, length in self.shards)


@dataclasses.dataclass(frozen=True)
class Directory:
    """A dataset on disk in TensorFlow Datasets' layout."""

    path: pathlib.Path
    splits: dict[str, Split]
    image_shape: tuple[int, int, int]
    classes: int


def find(config):
    """The Directory of config.dataset below config.data_dir; reads two JSON files.

    Raises:
        InputError: there is no such dataset, or not the files that it says it has.
    """
    looked_in = pathlib.Path(config.data_dir) / config.dataset
    infos = sorted(looked_in.glob("*/dataset_info.json"))
    if not infos:
        raise InputError(
            f"There is no dataset {config.dataset} in {looked_in}. Prepare it with\n"
            f"  python -m tools.prepare_data --dataset={config.dataset} --source=tfds "
            f"--data_dir={config.data_dir}"
        )
    if len(infos) > 1:
        found = ", ".join(str(info.parent) for info in infos)
        raise InputError(f"Expected one version of {config.dataset}. Found: {found}")
    path = infos[0].parent
    try:
        info = json.loads((path / "dataset_info.json").read_text())
        features = json.loads((path / "features.json").read_text())["featuresDict"]["features"]
        splits = {split["name"]: _split(path, split) for split in info["splits"]}
        shape = tuple(
            int(size) for size in features["image"]["image"]["shape"]["dimensions"]
        )  # (height, width, channels)
        classes = int(features["label"]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not a dataset of images and labels as TensorFlow Datasets writes them: "
            f"{error!r}."
        ) from None
    for split in ("train", "test"):
        if split not in splits:
            raise InputError(f"{path} has no {split} split. Found: {', '.join(splits)}")
    return Directory(path, splits, shape, classes)


def _split(path, info):
    lengths = [int(length) for length in info["shardLengths"]]
    template = info.get("filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    dataset = path.parent.name
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
        shards.append((shard, length))
    return Split(tuple(shards))
