"""The datasets, by name; a dataset is one line here and, to prepare it, one in prepare.

This module imports no framework: a name can be checked before TensorFlow is loaded.
"""

import dataclasses
import pathlib

from lottery_tf.datasets.layout import Fields, read_fields, read_splits
from lottery_tf.datasets.splits import DataFlags, Split, choose
from lottery_tf.errors import InputError

# name: module:function of (images of one size, draws); datasets.augmentation says when it runs.
AUGMENTATIONS = {
    "none": "lottery_tf.datasets.augmentation:none",
    "flip": "lottery_tf.datasets.augmentation:flip",
    "flip_crop": "lottery_tf.datasets.augmentation:flip_crop",
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How the images of a dataset become inputs: augmented, then (pixel / 255 - mean) / std.

    Args:
        mean, std: per channel; None: those of the first training images (see statistics).
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
    """Return a directory that comes with the package: inside a wheel, beside it in a checkout."""
    package = pathlib.Path(__file__).parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A dataset on disk in TensorFlow Datasets' layout."""

    path: pathlib.Path
    splits: dict[str, Split]  # "train", "test" and, with --validation_fraction, "validation"
    fields: Fields
    input_shape: tuple[int, int, int]  # (height, width, channels) as the network sees it

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, channels) as stored; height and width are None if they vary."""
        return self.fields.shape

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.fields.classes

    @property
    def one_size(self) -> bool:
        """Whether all images have one size."""
        return self.image_shape[0] is not None

    @property
    def pixels(self) -> str:
        """The type of the pixels in memory: uint8 where they are stored so, else float32."""
        return "uint8" if self.fields.dtype == "uint8" else "float32"


def is_directory(dataset: str) -> bool:
    """Return whether a --dataset is a directory of the user's."""
    return bool(_infos(pathlib.Path(dataset)))


def _infos(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted([*path.glob("dataset_info.json"), *path.glob("*/dataset_info.json")])


def find(flags: DataFlags) -> PreparedDataset:
    """Return the PreparedDataset of --dataset, below --data_dir if it is a name.

    The embedded digits are found wherever the package is. Reads two JSON files.

    Raises:
        InputError: there is no such dataset, it lacks files that it says it has, or it is not of
            images and labels.
    """
    is_named = flags.dataset in DATASETS
    looked_in = pathlib.Path(flags.data_dir if is_named else ".") / flags.dataset
    infos = _infos(looked_in)
    if not infos and flags.dataset == EMBEDDED:
        infos = _infos(packaged("data") / EMBEDDED)
    if not infos:
        advice = "Expected a directory with a dataset_info.json."
        if flags.dataset == EMBEDDED:
            advice = "It comes with the package, whose data directory is gone: install it again."
        elif is_named:
            advice = (
                "Prepare it with lottery prepare-data, or in a checkout\n"
                f"  python -m tools.prepare_data --dataset={flags.dataset} --source=tfds "
                f"--data_dir={flags.data_dir}"
            )
        raise InputError(f"There is no dataset {flags.dataset} in {looked_in}. {advice}")
    if len(infos) > 1:
        versions = ", ".join(str(info.parent) for info in infos)
        raise InputError(f"Expected one version of {flags.dataset}. Found: {versions}")
    path = infos[0].parent
    evaluation = DATASETS.get(flags.dataset, USERS_OWN).evaluation
    splits = choose(path, read_splits(path), flags, evaluation)
    fields = read_fields(path, flags.image_key, flags.label_key)
    height, width, channels = fields.shape
    input_shape = (height or flags.image_size, width or flags.image_size, channels)
    return PreparedDataset(path, splits, fields, input_shape)
