"""Small datasets that the tests make."""

import contextlib
import gzip
import io
import json
import struct

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

IMAGE = tfds.features.Image(shape=(4, 4, 1))
LABEL = tfds.features.ClassLabel(num_classes=3)


def write_dataset(data_dir, *, shard_lengths, name="digits", classes=10, shape=(8, 8, 1)):
    """A dataset of random images with the given training shards, and 25 test images.

    TFDS decides itself how many shards it writes, so the shards are written by hand; every image
    holds the index of its example in its first pixel.
    """
    path = data_dir / name / "1.0.0"
    path.mkdir(parents=True)
    generator, splits = np.random.default_rng(0), []
    for split, lengths in (("train", shard_lengths), ("test", [25])):
        index = 0
        for shard, length in enumerate(lengths):
            file = f"{name}-{split}.tfrecord-{shard:05d}-of-{len(lengths):05d}"
            with tf.io.TFRecordWriter(str(path / file)) as writer:
                for _ in range(length):
                    image = generator.integers(0, 256, shape, np.uint8)
                    image[0, 0, 0] = index
                    writer.write(example(image, index % classes))
                    index += 1
        splits.append({"name": split, "shardLengths": [str(length) for length in lengths]})
        splits[-1]["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        splits[-1]["numBytes"] = "1"
    info = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (path / "dataset_info.json").write_text(json.dumps(info))
    (path / "features.json").write_text(json.dumps(features(classes, shape)))
    return path


def example(image, label):
    """A serialized example of an image and a label."""
    png = tf.io.encode_png(image).numpy()
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def features(classes, shape):
    """What features.json says of images and labels."""
    module = "tensorflow_datasets.core.features"
    image = {"dtype": "uint8", "encodingFormat": "png"}
    image["shape"] = {"dimensions": [str(size) for size in shape]}
    return {
        "pythonClassName": f"{module}.features_dict.FeaturesDict",
        "featuresDict": {
            "features": {
                "image": {"pythonClassName": f"{module}.image_feature.Image", "image": image},
                "label": {
                    "pythonClassName": f"{module}.class_label_feature.ClassLabel",
                    "classLabel": {"numClasses": str(classes)},
                },
            }
        },
    }


def write_mnist(directory, *, train=30, test=20, compress=True):
    """MNIST's four IDX files with random images; returns {file stem: array}."""
    directory.mkdir(parents=True, exist_ok=True)
    generator, arrays = np.random.default_rng(0), {}
    for prefix, count in (("train", train), ("t10k", test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = generator.integers(0, 256, (count, 28, 28))
        arrays[f"{prefix}-labels-idx1-ubyte"] = generator.integers(0, 10, count)
    for stem, array in arrays.items():
        content = idx(array)
        if compress:
            (directory / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / stem).write_bytes(content)
    return arrays


def idx(array):
    """The bytes of an IDX file."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def store(data_dir, features, splits, *, name="own"):
    """A dataset that TensorFlow Datasets itself writes; returns its directory.

    Args:
        features: {key: tfds feature}.
        splits: {split: examples, each {key: value}}.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: list(enumerate(some)) for split, some in splits.items()},
            data_dir=str(data_dir),
            disable_shuffling=True,
        )
    return data_dir / name / "1.0.0"


def images_and_labels(images, classes=3):
    """Examples of these images, labelled in turn."""
    return [{"image": image, "label": index % classes} for index, image in enumerate(images)]


def shaded(count):
    """(images uint8 (count, 6, 5), labels (count,)) of three classes, by their brightness."""
    labels = np.random.default_rng(count).permutation(np.arange(count) % 3)
    noise = np.random.default_rng(count + 1).integers(0, 40, (count, 6, 5))
    return (90 * labels[:, None, None] + noise).clip(0, 255).astype(np.uint8), labels


def numbered(count, first=0, image="image", label="label", **others):
    """Examples whose pixels are their number."""
    numbers = range(first, first + count)
    return [{image: np.full((4, 4, 1), n, np.uint8), label: n % 3, **others} for n in numbers]
