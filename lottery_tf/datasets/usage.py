"""What a prepared dataset holds, and the command that trains on it. Stdlib only."""

import json
import pathlib
import shlex

from lottery_tf.datasets import DATASETS, USERS_OWN
from lottery_tf.datasets.json_files import brief
from lottery_tf.datasets.layout import Fields, read_class_names, read_fields, read_splits

SHOWN = 10  # names of classes
DATA_DIR = "data"  # where names of datasets are looked for


def describe(path: pathlib.Path, dataset: str) -> list[str]:
    """Lines that say what the dataset in a directory holds, and how to train on it.

    Args:
        path: of the dataset's version.
        dataset: its name below the data directory.

    Raises:
        InputError: it is not what a network can be trained on.
    """
    splits = {name: split.examples for name, split in read_splits(path).items() if split.examples}
    found, others = fields(path)
    image, label = found.image_key, found.label_key
    size = " x ".join(str(length or "any") for length in found.shape)
    counts = ", ".join(f"{name} {count}" for name, count in splits.items())
    names = read_class_names(path, label)
    more = ", …" if len(names) > SHOWN else ""
    lines = [
        f"{counts} examples; images {size} {found.dtype}; {found.classes} classes"
        + (f": {', '.join(names[:SHOWN])}{more}." if names else ".")
    ]
    if others:
        lines.append(f"Other labels, for --label_key: {', '.join(others)}.")
    flags = _where(path, dataset) + _which(splits, DATASETS.get(dataset, USERS_OWN).evaluation)
    flags += [f"--image_key={image}"] if image != "image" else []
    flags += [f"--label_key={label}"] if label != "label" else []
    if any(flag.startswith("--test_fraction") for flag in flags):
        lines.append("It has no test split: --test_fraction holds out a part of the training.")
    return [*lines, f"Train on it: python -m lottery_tf.imp {shlex.join(flags)}"]


def fields(path: pathlib.Path) -> tuple[Fields, list[str]]:
    """(the Fields to train on, the names of other fields of labels).

    Raises:
        InputError: they are not what a network can be trained on.
    """
    image, label, others = _keys(path)
    return read_fields(path, image, label), others


def _where(path, dataset):
    """The flags that find the dataset."""
    data_dir = path.parents[dataset.count("/") + 1]
    if dataset not in DATASETS:
        return [f"--dataset={path.parent}"]
    return [f"--dataset={dataset}"] + (
        [f"--data_dir={data_dir}"] if str(data_dir) != DATA_DIR else []
    )


def _which(splits, evaluation):
    """The flags that choose the splits, where the usual ones are not there."""
    train = "train" if "train" in splits else next(iter(splits), "train")
    flags = [f"--train_split={train}"] if train != "train" else []
    tests = [name for name in (evaluation, "test", "validation") if name in splits]
    return flags if tests and tests[0] != train else [*flags, "--test_fraction=0.1"]


def _keys(path):
    """(field of the image, field of the label, other fields of labels)."""
    features = json.loads((path / "features.json").read_text("utf-8"))["featuresDict"]["features"]
    info = json.loads((path / "dataset_info.json").read_text("utf-8"))
    items = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    pair = [item.get("featureKey") for item in items]
    kinds = {key: value["pythonClassName"].rpartition(".")[2] for key, value in features.items()}
    images = [key for key, kind in kinds.items() if kind == "Image"]
    labels = [key for key, kind in kinds.items() if kind == "ClassLabel"]
    tensors = [key for key, kind in kinds.items() if kind == "Tensor" and key in (*pair, "image")]
    image = _first([*pair, "image"], images + tensors)
    label = _first([*pair, "label"], labels)
    return image, label, [brief(key) for key in labels if key != label]


def _first(wanted, found):
    """The first that is wanted and found, else the first that is found."""
    return next((key for key in wanted if key in found), next(iter(found), wanted[-1]))
