"""What the two JSON files of a dataset say, in TensorFlow Datasets' layout. Stdlib only.

TensorFlow Datasets would import any class that features.json names, and end in a traceback where
the files make no sense; here every value is checked before it is used.
"""

import dataclasses
import math
import pathlib
import re

from lottery_tf.datasets.json_files import (
    brief,
    get,
    load,
    nonsense,
    parse,
    sequence,
    shown,
    text,
    whole,
)
from lottery_tf.datasets.names import is_file_name
from lottery_tf.datasets.splits import Shard, Split
from lottery_tf.errors import InputError

PIXELS = ("uint8", "uint16", "float32")
MOST_VALUES = 2**28  # of one image
MOST_CLASSES = 1_000_000
MOST_EXAMPLES = 2**31 - 1  # of a split: an int32 counts them
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class Fields:
    """The image and the label of an example, as they are stored.

    Args:
        image_key, label_key: their names.
        kind: "Image" or "Tensor", the feature that the image is.
        shape: (height, width, channels); height and width are None if they vary.
        dtype: one of PIXELS.
        encoding: of an Image "png", "jpeg" or "" (any); of a Tensor "none", "bytes" or "zlib".
        classes: of the label.
    """

    image_key: str
    label_key: str
    kind: str
    shape: tuple[int | None, int | None, int]
    dtype: str
    encoding: str
    classes: int

    @property
    def image(self) -> str:
        """The image in words."""
        size = " x ".join(str(length or "any") for length in self.shape)
        return f"{self.kind} {size} {self.dtype} {self.encoding}".strip()


def read_fields(path: pathlib.Path, image_key: str, label_key: str) -> Fields:
    """The Fields of the dataset in a directory.

    Raises:
        InputError: features.json is not there or makes no sense, there are no fields of these
            names, or they are not what a network can be trained on.
    """
    top = load(path / "features.json")
    top = _of_today(path, top) if "type" in top else top
    features = get(path, top, "featuresDict", "features")
    for key in (image_key, label_key):
        if key not in features:
            raise _no_such_field(path, features, image_key, label_key)
    image, label = features[image_key], features[label_key]
    kind = _class(image)
    if kind not in ("Image", "Tensor"):
        raise InputError(
            f"{path}: expected images in {image_key}, an Image or a Tensor of height, width and "
            f"channels. Found: {_describe(image)}. Name another by --image_key."
        )
    content = get(path, image, kind.lower())
    dtype = content.get("dtype") or "uint8"
    if dtype not in PIXELS:
        raise InputError(
            f"{path}: expected pixels in {image_key} of {', '.join(PIXELS)}. Found: "
            f"{shown(dtype)}. Store them as one of these."
        )
    encoding = content.get("encodingFormat" if kind == "Image" else "encoding", "")
    shape = _shape(path, image_key, kind, content)
    _check_encoding(path, image_key, kind, shape, dtype, encoding)
    classes = _classes(path, label_key, label)
    return Fields(image_key, label_key, kind, shape, dtype, encoding, classes)


def _of_today(path, old):
    """What features.json of TensorFlow Datasets 4.0 to 4.4 says, in the words of later versions."""
    kind, content = text(path, old.get("type"), "the type of a feature"), old.get("content")
    name = kind.rpartition(".")[2]
    today = f"{name[0].lower()}{name[1:]}"  # FeaturesDict is described in featuresDict
    if "proto_cls" in old:  # of 4.3 and 4.4: the content is as it is today, or JSON of it
        inner = parse(path, content) if isinstance(content, str) else content
        return {"pythonClassName": kind, today: inner}
    content = content if isinstance(content, dict) else {}
    if name == "FeaturesDict":
        inner = {
            "features": {
                key: _of_today(path, value if isinstance(value, dict) else {})
                for key, value in content.items()
            }
        }
    else:
        shape = content.get("shape", [])
        sizes = [-1 if size is None else size for size in sequence(path, shape)]
        inner = {
            "shape": {"dimensions": sizes},
            "dtype": content.get("dtype"),
            "encodingFormat": content.get("encoding_format") or "",
            "encoding": content.get("encoding") or "",
            "numClasses": content.get("num_classes", 0),
        }
    return {"pythonClassName": kind, today: inner}


def _no_such_field(path, features, image_key, label_key):
    found = ", ".join(f"{brief(key)} ({_describe(value)})" for key, value in features.items())
    images = [brief(key) for key, value in features.items() if _class(value) == "Image"]
    labels = [brief(key) for key, value in features.items() if _class(value) == "ClassLabel"]
    advice = "Name them by --image_key and --label_key."
    if len(images) == len(labels) == 1:
        advice = f"Add --image_key={images[0]} --label_key={labels[0]}."
    return InputError(
        f"{path}: expected the fields {image_key} (an Image) and {label_key} (a ClassLabel). "
        f"Found: {found or 'none'}. {advice}"
    )


def _shape(path, key, kind, content):
    dimensions = get(path, content, "shape").get("dimensions", [])
    sizes = [whole(path, size, f"a size of {key}") for size in sequence(path, dimensions)]
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
    height, width = (None, None) if varying else sizes[:2]
    return height, width, sizes[2]


def _check_encoding(path, key, kind, shape, dtype, encoding):
    """Raises InputError unless TensorFlow Datasets can write such a feature."""
    known = ("", "png", "jpeg") if kind == "Image" else ("", "none", "bytes", "zlib")
    wrong = encoding not in known
    if kind == "Image" and not wrong:
        wrong = (encoding == "jpeg" and (dtype != "uint8" or shape[2] not in (1, 3))) or (
            dtype == "float32" and shape[2] != 1
        )
    if wrong:
        raise InputError(
            f"{path}: features.json says of {key} what cannot be: {kind} of {shape[2]} channels, "
            f"{dtype}, encoded as {shown(encoding)}. Prepare the dataset again."
        )


def _classes(path, key, label):
    if _class(label) != "ClassLabel":
        raise InputError(
            f"{path}: expected labels in {key} that are a ClassLabel, numbers with their classes. "
            f"Found: {_describe(label)}. Store them as tfds.features.ClassLabel(names=[...]), or "
            "name another field by --label_key."
        )
    content = get(path, label, "classLabel")
    classes = whole(path, content.get("numClasses", 0), f"the number of classes of {key}")
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(
            f"{path}: expected 2 to {MOST_CLASSES} classes in {key}. features.json says: {classes}"
        )
    return classes


def read_class_names(path: pathlib.Path, label_key: str) -> list[str]:
    """Return the names of the classes of a dataset; none if they are only numbers."""
    if not is_file_name(label_key):
        return []
    try:
        return (path / f"{label_key}.labels.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def read_splits(path: pathlib.Path) -> dict[str, Split]:
    """{name: Split} of the dataset in a directory; whether its files are there is not checked.

    Raises:
        InputError: dataset_info.json is not there or makes no sense, or the files are no TFRecords.
    """
    info = load(path / "dataset_info.json")
    formats = [info.get("fileFormat", "tfrecord")]
    formats += sequence(path, info.get("alternativeFileFormats", []))
    if "tfrecord" not in formats:
        raise InputError(
            f"{path}: expected TFRecord files. Found: {shown(formats[0])}. Prepare it again, by "
            "tfds.builder(<its name>, file_format='tfrecord').download_and_prepare()."
        )
    splits: dict[str, Split] = {}
    for split in sequence(path, info.get("splits", [])):
        name = text(path, split.get("name") if isinstance(split, dict) else None, "a split's name")
        if name in splits:
            raise nonsense(path, f"the split {name} twice")
        splits[name] = _split(path, text(path, info.get("name"), "its name"), split)
    return splits


def _split(path, dataset, info):
    lengths = [
        whole(path, length, "a shard's length")
        for length in sequence(path, info.get("shardLengths", []))
    ]
    if min(lengths, default=0) < 0 or sum(lengths) > MOST_EXAMPLES:
        raise nonsense(path, f"{sum(lengths)} examples in the split {info['name']}")
    template = text(path, info.get("filepathTemplate") or TEMPLATE, "a filepathTemplate")
    count = f"{len(lengths):05d}"
    values = {"DATASET": dataset, "SPLIT": info["name"], "FILEFORMAT": "tfrecord"}
    shards = []
    for index, length in enumerate(lengths):
        place = f"{index:05d}"
        of_shard = {
            "SHARD_INDEX": place,
            "NUM_SHARDS": count,
            "SHARD_X_OF_Y": f"{place}-of-{count}",
        }
        file = path / text(path, _fill(template, values | of_shard), "a file's name")
        shards.append(Shard(file, examples=length, used=length))
    return Split(tuple(shards))


def _fill(template, values):
    """A template with {NAME} replaced by values; what has another name stays."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def _class(feature):
    """The last part of the name of a feature's class."""
    name = feature.get("pythonClassName") if isinstance(feature, dict) else None
    return brief(name.rpartition(".")[2]) if isinstance(name, str) else "nothing known"


def _describe(feature):
    """The class of a feature, and its type where it has one."""
    tensor = feature.get("tensor") if isinstance(feature, dict) else None
    dtype = tensor.get("dtype") if isinstance(tensor, dict) else None
    return f"{_class(feature)} {brief(dtype)}" if isinstance(dtype, str) else _class(feature)
