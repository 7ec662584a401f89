"""Reads the two JSON files of a dataset in TensorFlow Datasets' layout.

TensorFlow Datasets' own message types parse them, so every value has the type that it should have.
Its builders are not used: they import any class that features.json names.
"""

import dataclasses
import json
import math
import pathlib
import re
from typing import Any

from lottery_tf.datasets.names import brief, is_file_name
from lottery_tf.datasets.splits import Shard, Split
from lottery_tf.errors import InputError

INFO = "dataset_info.json"
PIXELS = ("uint8", "uint16", "float32")
MOST_VALUES = 2**28  # of one image
MOST_CLASSES = 1_000_000
MOST_EXAMPLES = 2**31 - 1  # of a split: an int32 counts them
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class Fields:
    """The image and the label of an example, as they are stored."""

    image_key: str
    label_key: str
    kind: str  # "Image" or "Tensor", the feature that the image is
    shape: tuple[int | None, int | None, int]  # (height, width, channels); None if they vary
    dtype: str  # one of PIXELS
    encoding: str  # of an Image "png", "jpeg" or "" (any); of a Tensor "none", "bytes" or "zlib"
    classes: int  # how many the label has

    @property
    def size(self) -> str:
        """The shape in words."""
        return " x ".join(str(length or "any") for length in self.shape)

    @property
    def image(self) -> str:
        """The image in words, as a run's record of its data keeps them."""
        return f"{self.kind} {self.size} {self.dtype} {self.encoding}".strip()


def read_fields(path: pathlib.Path, image_key: str, label_key: str) -> Fields:
    """Return the Fields of the dataset in a directory.

    Raises:
        InputError: features.json is missing or makes no sense, it has no fields of these names, or
            a network cannot be trained on them.
    """
    features = _features(path)
    if not {image_key, label_key} <= features.keys():
        found = ", ".join(f"{brief(key)} ({_describe(value)})" for key, value in features.items())
        images = [brief(key) for key, value in features.items() if _class(value) == "Image"]
        labels = [brief(key) for key, value in features.items() if _class(value) == "ClassLabel"]
        advice = "Name them by --image_key and --label_key."
        if len(images) == len(labels) == 1:
            advice = f"Add --image_key={images[0]} --label_key={labels[0]}."
        raise InputError(
            f"{path}: expected the fields {image_key} (an Image) and {label_key} (a ClassLabel). "
            f"Found: {found or 'none'}. {advice}"
        )
    image, label = features[image_key], features[label_key]
    kind = _class(image)
    if kind not in ("Image", "Tensor"):
        raise InputError(
            f"{path}: expected images in {image_key}, an Image or a Tensor of height, width and "
            f"channels. Found: {_describe(image)}. Name another field by --image_key."
        )
    content = getattr(image, kind.lower())
    dtype = content.dtype or "uint8"
    if dtype not in PIXELS:
        raise InputError(
            f"{path}: expected pixels in {image_key} of {', '.join(PIXELS)}. Found: "
            f"{brief(dtype)}. Store them as one of these."
        )
    encoding = content.encoding_format if kind == "Image" else content.encoding
    shape = _shape(path, image_key, kind, list(content.shape.dimensions))
    # What TensorFlow Datasets cannot write.
    known = ("", "png", "jpeg") if kind == "Image" else ("", "none", "bytes", "zlib")
    no_jpeg = encoding == "jpeg" and (dtype != "uint8" or shape[2] not in (1, 3))
    no_floats = kind == "Image" and dtype == "float32" and shape[2] != 1
    if encoding not in known or no_jpeg or no_floats:
        raise InputError(
            f"{path}: features.json says of {image_key} what cannot be: {kind} of {shape[2]} "
            f"channels, {dtype}, encoded as {brief(encoding)}. Prepare the dataset again."
        )
    if _class(label) != "ClassLabel":
        raise InputError(
            f"{path}: expected labels in {label_key} that are a ClassLabel, numbers with their "
            f"classes. Found: {_describe(label)}. Store them as "
            "tfds.features.ClassLabel(names=[...]), or name another field by --label_key."
        )
    classes = label.class_label.num_classes
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(
            f"{path}: expected 2 to {MOST_CLASSES} classes in {label_key}. features.json says: "
            f"{classes}"
        )
    return Fields(image_key, label_key, kind, shape, dtype, encoding, classes)


def find_fields(path: pathlib.Path) -> tuple[Fields, list[str]]:
    """Return the Fields to train on, and the names of other fields of labels.

    The dataset says which they are, if it was written with `supervised_keys`; else the usual names
    win, and then the first of the right kind.

    Raises:
        InputError: a network cannot be trained on them.
    """
    kinds = {key: _class(feature) for key, feature in _features(path).items()}
    declared = [key.feature_key for key in _message(path / INFO).supervised_keys.tuple.items]
    images = [key for key, kind in kinds.items() if kind == "Image"]
    labels = [key for key, kind in kinds.items() if kind == "ClassLabel"]
    images += [key for key in (*declared, "image") if kinds.get(key) == "Tensor"]

    def first(wanted: list[str], found: list[str]) -> str:
        return next((key for key in wanted if key in found), next(iter(found), wanted[-1]))

    image, label = first([*declared, "image"], images), first([*declared, "label"], labels)
    others = [brief(key) for key in labels if key != label]
    return read_fields(path, image, label), others


def read_class_names(path: pathlib.Path, label_key: str) -> list[str]:
    """Return the names of the classes of a dataset; none if they are only numbers."""
    if not is_file_name(label_key):
        return []
    try:
        return (path / f"{label_key}.labels.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def read_splits(path: pathlib.Path) -> dict[str, Split]:
    """Return {name: Split} of the dataset in a directory, without looking for the files.

    Raises:
        InputError: dataset_info.json is missing or makes no sense, or the files are no TFRecords.
    """
    info = _message(path / INFO)
    others = getattr(info, "alternative_file_formats", ())  # version 4.9.6 has none
    formats = [info.file_format or "tfrecord", *others]
    if "tfrecord" not in formats:
        raise InputError(
            f"{path}: expected TFRecord files. Found: {brief(formats[0])}. Prepare it again, by "
            "tfds.builder(<its name>, file_format='tfrecord').download_and_prepare()."
        )
    splits: dict[str, Split] = {}
    for split in info.splits:
        for what, name in (("split", split.name), ("dataset", info.name)):
            if not is_file_name(name):
                raise nonsense(path, f"{brief(name)!r} as the name of a {what}")
        if split.name in splits:
            raise nonsense(path, f"the split {split.name} twice")
        splits[split.name] = _split(path, info.name, split)
    return splits


def nonsense(path: pathlib.Path, found: str) -> InputError:
    """Return the InputError that a directory holds no dataset, but something else."""
    return InputError(
        f"{path} is not a dataset of images and labels as TensorFlow Datasets writes them. Found: "
        f"{found}. Prepare it again."
    )


def _features(path: pathlib.Path) -> dict[str, Any]:
    """Return {field: feature_pb2.Feature}."""
    top = _message(path / "features.json")
    if not top.HasField("features_dict"):
        raise nonsense(path, "no featuresDict in features.json")
    return dict(sorted(top.features_dict.features.items()))  # a protobuf map has no order


def _message(file: pathlib.Path) -> Any:
    """Return the message that a JSON file holds."""
    # Here, as they take a second to import, for which names and --help need not wait.
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto.dataset_info_generated_pb2 import DatasetInfo
    from tensorflow_datasets.core.proto.feature_generated_pb2 import Feature

    empty = Feature() if file.name == "features.json" else DatasetInfo()
    try:
        content = _of_today(json.loads(file.read_text(encoding="utf-8")))
        return json_format.ParseDict(content, empty, ignore_unknown_fields=True)
    except OSError as error:
        raise nonsense(file.parent, f"no {file.name} that can be read ({error.strerror})") from None
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        json_format.Error,
    ) as error:
        reason = " ".join(str(error).encode("ascii", "replace").decode().split())
        raise nonsense(
            file.parent, f"a {file.name} that makes no sense ({reason[:300]})"
        ) from error


def _of_today(content: Any) -> Any:
    """Rewrite what TensorFlow Datasets 4.0 to 4.4 wrote in features.json as later versions do."""
    if "type" not in content:
        return content
    kind, old = content["type"], content.get("content") or {}
    name = kind.rpartition(".")[2]
    today = f"{name[:1].lower()}{name[1:]}"  # FeaturesDict is described in featuresDict
    if "proto_cls" in content:  # of 4.3 and 4.4: the content is as it is today, or JSON of it
        inner = json.loads(old) if isinstance(old, str) else old
    elif name == "FeaturesDict":
        inner = {"features": {key: _of_today(value) for key, value in old.items()}}
    else:
        inner = {
            "shape": {
                "dimensions": [-1 if size is None else size for size in old.get("shape", [])]
            },
            "dtype": old.get("dtype"),
            "encodingFormat": old.get("encoding_format"),
            "encoding": old.get("encoding"),
            "numClasses": old.get("num_classes"),
        }
    return {"pythonClassName": kind, today: inner}


def _shape(
    path: pathlib.Path, key: str, kind: str, sizes: list[int]
) -> tuple[int | None, int | None, int]:
    """Return (height, width, channels); InputError if images cannot have these sizes."""
    channels = sizes[2] if len(sizes) == 3 else 0
    right = channels in (1, 3, 4) if kind == "Image" else channels > 0
    varying = kind == "Image" and -1 in sizes[:2]
    known = [size for size in sizes if size != -1]
    if not right or min(known) < 1 or (len(known) < 3 and not varying):
        wanted = "1, 3 or 4 channels" if kind == "Image" else "channels, which do not vary"
        raise InputError(
            f"{path}: expected images in {key} of a height, a width and {wanted}. Found: {kind} "
            f"of {' x '.join(map(str, sizes)) or 'no size'}."
        )
    if math.prod(known) > MOST_VALUES:
        raise InputError(
            f"{path}: expected at most {MOST_VALUES} values in an image of {key}. Found: "
            f"{' x '.join(map(str, sizes))}."
        )
    return (None, None, channels) if varying else (sizes[0], sizes[1], channels)


def _split(path: pathlib.Path, dataset: str, split: Any) -> Split:
    """Return the Split of a SplitInfo message."""
    lengths = list(split.shard_lengths)
    if min(lengths, default=0) < 0 or sum(lengths) > MOST_EXAMPLES:
        raise nonsense(path, f"{sum(lengths)} examples in the split {split.name}")
    template, count, shards = split.filepath_template or TEMPLATE, f"{len(lengths):05d}", []
    for index, length in enumerate(lengths):
        values = {
            "DATASET": dataset,
            "SPLIT": split.name,
            "FILEFORMAT": "tfrecord",
            "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": count,
            "SHARD_X_OF_Y": f"{index:05d}-of-{count}",
        }
        # What has another name stays as it is.
        name = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)  # noqa: B023
        if not is_file_name(name):
            raise nonsense(path, f"{brief(name)!r} as the name of a file, by its filepathTemplate")
        shards.append(Shard(path / name, examples=length, used=length))
    return Split(tuple(shards))


def _class(feature: Any) -> str:
    """Return the last part of the name of a feature's class."""
    return brief(feature.python_class_name.rpartition(".")[2]) or "nothing known"


def _describe(feature: Any) -> str:
    """Return the class of a feature, and its type where it has one."""
    return f"{_class(feature)} {brief(feature.tensor.dtype)}".strip()
