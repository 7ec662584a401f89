"""What the JSON files of a dataset say, and which of its fields are used."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lottery_tf import datasets
from lottery_tf.datasets import layout, tfrecords
from lottery_tf.errors import InputError
from tests.synthetic import IMAGE, LABEL, features, numbered, store, write_dataset


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A dataset whose fields have other names, beside others that are of no use."""
    features = {"photo": IMAGE, "species": LABEL, "who": tfds.features.Text()}
    features |= {
        "age": tfds.features.Scalar(np.int64),
        "film": tfds.features.Video((None, 4, 4, 3)),
    }
    others = {"who": "me", "age": 3, "film": np.zeros((2, 4, 4, 3), np.uint8)}
    examples = numbered(6, image="photo", label="species", **others)
    return store(tmp_path_factory.mktemp("named"), features, {"train": examples, "test": examples})


def test_fields_of_other_names_are_named_and_taken(named, config):
    expected = (
        r"image .*label .*photo \(Image\).*species \(ClassLabel\).*who \(Text\)"
        ".*--image_key=photo --label_key=species"
    )
    with pytest.raises(InputError, match=expected):
        datasets.find(config(dataset=str(named)))
    directory = datasets.find(config(dataset=str(named), image_key="photo", label_key="species"))
    images, labels = tfrecords.read(directory, "train")
    np.testing.assert_array_equal(images[:, 0, 0, 0], range(6))
    np.testing.assert_array_equal(labels, np.arange(6) % 3)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"image_key": "film"}, "film.*Video.*--image_key"),
        ({"image_key": "who"}, "Found: Text"),
        ({"image_key": "age"}, "Found: Scalar int64"),
        ({"label_key": "who"}, r"Found: Text\. .*tfds\.features\.ClassLabel"),
        ({"label_key": "age"}, r"Found: Scalar int64\. .*ClassLabel"),
        ({"label_key": "photo"}, "Found: Image"),
    ],
)
def test_fields_that_are_not_images_and_labels_are_refused(named, config, keys, words):
    keys = {"image_key": "photo", "label_key": "species"} | keys
    with pytest.raises(InputError, match=words):
        datasets.find(config(dataset=str(named), **keys))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": {"dimensions": ["4", "4", "2"]}}, "1, 3 or 4 .* 4 x 4 x 2"),
        ({"shape": {"dimensions": ["2", "4", "4", "3"]}}, "Found: Image of 2 x 4 x 4 x 3"),
        ({"shape": {"dimensions": ["4", "4", "-1"]}}, "Found: Image of 4 x 4 x -1"),
        ({"shape": {}}, "Found: Image of no size"),
        (
            {"shape": {"dimensions": ["99999999", "9999999", "3"]}},
            "268435456 .*99999999 x 9999999 x 3",
        ),
        ({"shape": {"dimensions": None}}, "no size"),
        ({"shape": {"dimensions": [4.5, "4", "3"]}}, r"features\.json .*4\.5 .*dimensions"),
        ({"dtype": "int64"}, "uint8, uint16, float32. .*int64"),
        (
            {"dtype": "float32", "shape": {"dimensions": ["4", "4", "3"]}},
            r"features\.json .* image .*channels",
        ),
        ({"encodingFormat": "heif"}, r"features\.json .*heif"),
        ({"encodingFormat": "jpeg", "dtype": "uint16"}, r"features\.json .* image .*channels"),
    ],
)
def test_images_that_cannot_be_are_refused(tmp_path, config, change, words):
    path = write_dataset(tmp_path, shard_lengths=[9])
    edit(path / "features.json", "featuresDict", "features", "image", "image", **change)
    with pytest.raises(InputError, match=words):
        datasets.find(config(data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "classes", [None, 0, "0", "1", -3, 10**9, "1000000000", 3.5, True, "ten", []]
)
def test_numbers_of_classes_that_cannot_be_are_refused(tmp_path, config, classes):
    path = write_dataset(tmp_path, shard_lengths=[9])
    keys = ("featuresDict", "features", "label", "classLabel")
    edit(path / "features.json", *keys, numClasses=classes)
    with pytest.raises(InputError, match=r"numClasses|2 to 1000000 .* label"):
        datasets.find(config(data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shardLengths": None}, "train split"),
        ({"shardLengths": [None]}, r"dataset_info\.json .*shardLengths\[0\]"),
        ({"shardLengths": ["-1"]}, "Found: -1 examples"),
        ({"shardLengths": ["1000000000"]}, r"digits-train\.tfrecord-\S* .*1000000000 "),
        ({"shardLengths": ["9000000000"]}, "Found: 9000000000 examples"),
        ({"shardLengths": []}, "train split"),
        ({"name": "test"}, "split test "),
        ({"name": 3}, r"dataset_info\.json .*name"),
        ({"filepathTemplate": "{0}{NOTHING}"}, r"\{0\}\{NOTHING\}"),
        ({"filepathTemplate": "x" * 300}, "filepathTemplate"),
        ({"filepathTemplate": "a\0b"}, "filepathTemplate"),
    ],
)
def test_splits_that_cannot_be_are_refused(tmp_path, config, change, words):
    path = write_dataset(tmp_path, shard_lengths=[9])
    edit(path / "dataset_info.json", "splits", 0, **change)
    with pytest.raises(InputError, match=words):
        datasets.find(config(data_dir=str(tmp_path)))


@pytest.mark.parametrize("kind", ["array_record", "riegeli", "parquet"])
def test_files_that_are_no_tfrecords_are_refused_with_what_to_do(tmp_path, config, kind):
    path = write_dataset(tmp_path, shard_lengths=[9])
    edit(path / "dataset_info.json", fileFormat=kind)
    words = rf"Found: {kind}\. .* file_format='tfrecord'\)"
    with pytest.raises(InputError, match=words):
        datasets.find(config(data_dir=str(tmp_path)))
    edit(path / "dataset_info.json", alternativeFileFormats=["tfrecord"])
    assert datasets.find(config(data_dir=str(tmp_path))).splits["train"].examples == 9


def test_a_shape_that_the_images_do_not_have_is_found_before_a_network_is_built(tmp_path, config):
    path = write_dataset(tmp_path, shard_lengths=[9])
    dimensions = {"dimensions": ["9000", "9000", "1"]}
    edit(path / "features.json", "featuresDict", "features", "image", "image", shape=dimensions)
    directory = datasets.find(config(data_dir=str(tmp_path)))
    with pytest.raises(InputError, match=r"digits-train.*features\.json"):
        tfrecords.check_first(directory)


def edit(path, *keys, **changes):
    """Changes some values of an object in a JSON file."""
    content = json.loads(path.read_text())
    value = content
    for key in keys:
        value = value[key]
    value.update(changes)
    path.write_text(json.dumps(content))


OLD = "tensorflow_datasets.core.features"


def old_features(classes, shape):
    """What features.json said before version 4.4 of TensorFlow Datasets."""
    image = {"shape": list(shape), "dtype": "uint8", "encoding_format": "png"}
    label = {"type": f"{OLD}.class_label_feature.ClassLabel", "content": {"num_classes": classes}}
    fields = {"image": {"type": f"{OLD}.image_feature.Image", "content": image}, "label": label}
    fields["id"] = {"type": f"{OLD}.text_feature.Text", "content": {}}
    return {"type": f"{OLD}.features_dict.FeaturesDict", "content": fields}


@pytest.mark.parametrize("kind", ["plain", "proto", "text"])
def test_features_of_older_versions_are_read(tmp_path, kind):
    path = write_dataset(tmp_path / "data", shard_lengths=[20])
    expected = layout.read_fields(path, "image", "label")
    old = old_features(10, (8, 8, 1))
    if kind != "plain":
        content = features(10, (8, 8, 1))["featuresDict"]
        old = {
            "type": f"{OLD}.features_dict.FeaturesDict",
            "proto_cls": "tensorflow_datasets.FeaturesDict",
            "content": json.dumps(content) if kind == "text" else content,
        }
    (path / "features.json").write_text(json.dumps(old))
    assert layout.read_fields(path, "image", "label") == expected
    with pytest.raises(InputError, match=r"photo .*--image_key=image"):
        layout.read_fields(path, "photo", "label")


@pytest.mark.parametrize("change", ["varying", "tensor"])
def test_shapes_and_tensors_of_older_versions(tmp_path, change):
    old = old_features(3, (8, 8, 1))
    if change == "varying":
        old["content"]["image"]["content"]["shape"] = [None, None, 3]
    else:
        tensor = {"shape": [8, 8, 5], "dtype": "float32", "encoding": "zlib"}
        old["content"]["image"] = {"type": f"{OLD}.tensor_feature.Tensor", "content": tensor}
    (tmp_path / "features.json").write_text(json.dumps(old))
    found = layout.read_fields(tmp_path, "image", "label")
    assert found.classes == 3
    if change == "varying":
        assert (found.shape, found.encoding) == ((None, None, 3), "png")
    else:
        stored = found.kind, found.shape, found.dtype, found.encoding
        assert stored == ("Tensor", (8, 8, 5), "float32", "zlib")


SHAPELESS = {"image": {"type": "Image", "content": {"shape": 3}}}


@pytest.mark.parametrize(
    "old",
    [
        {"type": 3},
        {"type": "x"},
        {"type": "", "content": {}},
        {"type": f"{OLD}.FeaturesDict"},
        {"type": f"{OLD}.FeaturesDict", "content": {"image": 3}},
        {"type": f"{OLD}.FeaturesDict", "proto_cls": "a", "content": "{"},
        {"type": f"{OLD}.FeaturesDict", "content": SHAPELESS},
    ],
)
def test_nonsense_of_older_versions_is_one_line(tmp_path, old):
    (tmp_path / "features.json").write_text(json.dumps(old))
    with pytest.raises(InputError):
        layout.read_fields(tmp_path, "image", "label")
