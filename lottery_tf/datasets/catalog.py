"""Which datasets of TensorFlow Datasets can be trained on, by their names and features."""

import difflib
import re
from typing import Any

import tensorflow_datasets as tfds

from lottery_tf.errors import InputError

NAME = re.compile(r"\w+(/[\w.+-]+)?")
NEAR = 5  # names to suggest


def full_name(name: str) -> str:
    """The name of a dataset with its configuration, as emnist/byclass, where it has several.

    Raises:
        InputError: there is no such dataset, or no such configuration of it; it suggests others.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            "--dataset: expected a name of TensorFlow Datasets, as fashion_mnist or "
            f"emnist/letters. Received: {name}"
        )
    name, _, chosen = name.partition("/")
    names = set(tfds.list_builders(with_community_datasets=False))
    if name not in names:
        near = _near(name, names) or "none; its page of datasets lists all"
        raise InputError(
            f"--dataset: TensorFlow Datasets has no {name}. Names like it: {near}. For files of "
            "your own: --source=raw, arrays or parquet."
        )
    configs = {config.name: config for config in _class_of(name).BUILDER_CONFIGS}
    if not configs and not chosen:
        return name
    if chosen and chosen not in configs:
        found = _near(chosen, configs) or ", ".join([*configs][:NEAR]) or "none"
        raise InputError(
            f"--dataset: {name} has no configuration {chosen}. Some that it has: {found}."
        )
    default = getattr(_class_of(name), "DEFAULT_BUILDER_CONFIG_NAME", None) or next(iter(configs))
    return f"{name}/{chosen or default}"


def _class_of(name):
    try:
        return tfds.builder_cls(name)
    except Exception as error:  # its module may need a package that is not there
        raise InputError(f"TensorFlow Datasets cannot load {name}: {error}.") from error


def _near(name, names):
    """Names with this one in them, or of nearly the same letters."""
    inside = sorted(other for other in names if name in other)
    near = [*inside, *difflib.get_close_matches(name, names, NEAR)]
    return ", ".join(list(dict.fromkeys(near))[:NEAR])


def check_kind(name: str, info: Any) -> None:
    """Raises InputError unless the examples of a tfds.core.DatasetInfo have an image and a label.

    The images may be a Tensor, if TensorFlow Datasets itself calls them what is to be classified.
    """
    features = info.features
    fields = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = tfds.features.Image, tfds.features.ClassLabel
    # A video, or a sequence of labels, is of another class, which derives from neither.
    kinds = {type(feature) for feature in fields.values()}
    pair = info.supervised_keys or (None, None)
    pixels: Any = fields.get(pair[0]) if isinstance(pair[0], str) else None
    is_tensor = type(pixels) is tfds.features.Tensor and len(pixels.shape) == 3
    if label in kinds and (image in kinds or is_tensor):
        return
    found = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in fields.items())
    raise InputError(
        f"--dataset: {name} is not image classification: expected an image (Image) and a label "
        f"(ClassLabel) in each example. TensorFlow Datasets gives: "
        f"{found or type(features).__name__}."
    )
