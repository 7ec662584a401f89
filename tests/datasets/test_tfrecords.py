"""Images of every type that a feature of TensorFlow Datasets holds, in memory and streamed."""

import gzip
import io
import json
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from lottery_tf import datasets
from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.statistics import channel_statistics
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training import feeds
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training
from tests.synthetic import LABEL, images_and_labels, store

TRAIN, TEST = 24, 6
FEATURES = {
    "8 bits": tfds.features.Image(shape=(6, 5, 3), encoding_format="png"),
    "8 bits, gray": tfds.features.Image(shape=(6, 5, 1)),
    "with alpha": tfds.features.Image(shape=(6, 5, 4)),
    "16 bits": tfds.features.Image(shape=(6, 5, 3), dtype=np.uint16, encoding_format="png"),
    "16 bits, gray": tfds.features.Image(shape=(6, 5, 1), dtype=np.uint16),
    "float": tfds.features.Image(shape=(6, 5, 1), dtype=np.float32),
    "bands": tfds.features.Tensor(shape=(6, 5, 7), dtype=np.float32, encoding="zlib"),
    "a tensor of 8 bits": tfds.features.Tensor(shape=(6, 5, 3), dtype=np.uint8),
    "a tensor of 16 bits": tfds.features.Tensor(shape=(6, 5, 3), dtype=np.uint16, encoding="bytes"),
}
WHITE = {np.uint8: 255, np.uint16: 65535}


def drawn(feature, count):
    """Random pixels of a feature; those that are float32 are of any size."""
    generator, shape = np.random.default_rng(count), (count, *feature.shape)
    if feature.np_dtype == np.float32:
        return (3000 * generator.standard_normal(shape)).astype(np.float32)
    return generator.integers(0, WHITE[feature.np_dtype] + 1, shape, feature.np_dtype)


def write(directory, feature):
    """(directory of a dataset of random images, {split: their pixels})."""
    pixels = {"train": drawn(feature, TRAIN), "test": drawn(feature, TEST)}
    examples = {split: images_and_labels(images) for split, images in pixels.items()}
    return store(directory, {"image": feature, "label": LABEL}, examples), pixels


@pytest.mark.ci
@pytest.mark.parametrize("kind", FEATURES)
def test_pixels_are_read_alike_in_memory_and_streamed(kind, tmp_path, config):
    path, pixels = write(tmp_path, FEATURES[kind])
    settings = config(dataset=str(path))
    directory = datasets.find(settings)
    for split, raw in pixels.items():
        expected = raw if raw.dtype == np.uint8 else raw.astype(np.float32)
        if raw.dtype == np.uint16:
            expected = expected / np.float32(65535)
        images, labels = tfrecords.read(directory, split)
        assert images.dtype == expected.dtype == directory.pixels
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, np.arange(len(raw)) % 3)
        batches = tfrecords.stream_in_order(directory, split, batch_size=4).as_numpy_iterator()
        np.testing.assert_array_equal(np.concatenate([some for some, _ in batches]), expected)
        tfrecords.check(directory, split, decode=True)

    # What the network sees has mean 0 and standard deviation 1, whatever the pixels are.
    images = tf.constant(tfrecords.read(directory, "train")[0])
    normalised = feeds.normaliser(settings, directory)(images).numpy()
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), 1, rtol=1e-4)


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["16 bits", "float"])
def test_training_has_the_same_bits_in_memory_and_streamed(kind, tmp_path, config):
    path, _ = write(tmp_path, FEATURES[kind])
    weights = {}
    for resident in ("on", "off"):
        settings = config(
            dataset=str(path), resident=resident, batch_size=8, epochs=1, augment="flip_crop"
        )
        engine = Engine(settings, datasets.find(settings), connect(settings))
        initialization = engine.initialization
        training = Training(initialization(0), engine.dense_masks(), Noise(0, 0))
        weights[resident], _ = engine.train(training)
    assert all(np.isfinite(array).all() for array in weights["on"].values())
    for name, array in weights["on"].items():
        np.testing.assert_array_equal(array, weights["off"][name])


@pytest.mark.ci
def test_floats_that_are_not_finite_are_named(tmp_path, config):
    feature = FEATURES["float"]
    pixels = drawn(feature, TRAIN)
    pixels[7, 0, 0, 0] = np.nan
    examples = {"train": images_and_labels(pixels), "test": images_and_labels(pixels[:6])}
    path = store(tmp_path, {"image": feature, "label": LABEL}, examples)
    for resident in ("on", "off"):
        settings = config(dataset=str(path), resident=resident, batch_size=8)
        with pytest.raises(InputError, match=r"own-train\.tfrecord-00000-of-00001 "):
            Engine(settings, datasets.find(settings), connect(settings))


def test_a_known_dataset_is_of_bytes(tmp_path, config):
    feature = FEATURES["float"]
    examples = {split: images_and_labels(drawn(feature, 6)) for split in ("train", "test")}
    store(tmp_path, {"image": feature, "label": LABEL}, examples, name="mnist")
    settings = config(dataset="mnist", data_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"mnist, uint8 .* Image 6 x 5 x 1 float"):
        channel_statistics(settings, datasets.find(settings))


def test_a_png_among_what_is_said_to_be_jpegs_is_named(tmp_path, config):
    feature = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    images = np.zeros((TRAIN, 20, 20, 3), np.uint8)
    files = [file(image, "png" if index == 7 else "jpeg") for index, image in enumerate(images)]
    test = [file(image, "jpeg") for image in images[:TEST]]
    splits = {"train": images_and_labels(files), "test": images_and_labels(test)}
    path = store(tmp_path, {"image": feature, "label": LABEL}, splits)
    settings = config(dataset=str(path), image_size=16)
    with pytest.raises(InputError, match=r"own-train\.tfrecord-00000-of-00001 .*JPEG"):
        channel_statistics(settings, datasets.find(settings))


def file(array, encoding):
    """An image as a file; the array itself without an encoding."""
    if encoding is None:
        return array
    content = io.BytesIO()
    quality = {"quality": 100} if encoding == "jpeg" else {}
    Image.fromarray(array.squeeze()).save(content, encoding, **quality)
    return io.BytesIO(content.getvalue())


VARYING = {
    "png": (tfds.features.Image(shape=(None, None, 3)), ["png"]),
    "jpeg or png": (tfds.features.Image(shape=(None, None, 3)), ["jpeg", "png"]),
    "gray": (tfds.features.Image(shape=(None, None, 1), encoding_format="jpeg"), ["jpeg"]),
    "gray png": (tfds.features.Image(shape=(None, None, 1), encoding_format="png"), ["png"]),
    "with alpha": (tfds.features.Image(shape=(None, None, 4)), ["png"]),
    "one side": (tfds.features.Image(shape=(None, 40, 3)), ["png", "jpeg"]),
    "16 bits": (tfds.features.Image(shape=(None, None, 3), dtype=np.uint16), [None]),
    "float": (tfds.features.Image(shape=(None, None, 1), dtype=np.float32), [None]),
}


@pytest.mark.parametrize("kind", VARYING)
def test_images_of_varying_size_keep_their_brightness(kind, tmp_path, config):
    feature, encodings = VARYING[kind]
    white = WHITE.get(feature.np_dtype, 1)
    levels = np.linspace(0, white, TRAIN).astype(feature.np_dtype)
    height, width, channels = feature.shape
    images = [
        np.full((height or 30 + index, width or 50 - index, channels), level, feature.np_dtype)
        for index, level in enumerate(levels)
    ]
    files = [file(image, encodings[i % len(encodings)]) for i, image in enumerate(images)]
    again = [file(image, encodings[0]) for image in images[:TEST]]
    splits = {"train": images_and_labels(files), "test": images_and_labels(again)}
    path = store(tmp_path, {"image": feature, "label": LABEL}, splits)
    directory = datasets.find(config(dataset=str(path), image_size=16))
    expected = levels if feature.np_dtype == np.uint8 else levels.astype(np.float32) / white
    noise, split = Noise(0, 0), directory.splits["train"]
    options = {"epoch": 0, "window": 64, "batch_size": TRAIN}
    ((cropped, _, _),) = tfrecords.stream(directory, split, noise, **options).as_numpy_iterator()
    in_order = tfrecords.stream_in_order(directory, "train", batch_size=TRAIN)
    ((centred, _),) = in_order.as_numpy_iterator()
    for found in (np.sort(cropped[:, 0, 0, 0]), centred[:, 0, 0, 0]):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for found in (cropped, centred):
        assert found.shape == (TRAIN, 16, 16, channels)
        assert found.dtype == expected.dtype == directory.pixels
        assert (np.ptp(found, axis=(1, 2, 3)) == 0).all()


@pytest.mark.parametrize("reader", [tfrecords.read, tfrecords.check])
def test_damaged_shards_are_named(copy, reader):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    directory = datasets.find(config)

    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(InputError, match=f"^{shard} .*features.json"):
        reader(directory, "train")

    shard.write_bytes(content[:-3])
    with pytest.raises(InputError, match=f"^{shard} .*features.json"):
        reader(directory, "train")

    length = int.from_bytes(content[:8], "little") + 16  # of the first record, with its checksums
    for kept, found in ((content[length:], 12), (content + content[:length], 14)):
        shard.write_bytes(kept)
        with pytest.raises(InputError, match=f"^{shard} .*{found} .* 13"):
            reader(directory, "train")

    shard.write_bytes(content)
    reader(directory, "train")


def test_cut_shards_are_found_by_their_lengths_alone(copy):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    directory = datasets.find(config)
    tfrecords.check_lengths(directory, "train")
    length = int.from_bytes(content[:8], "little") + 16
    for damaged, words in (
        (content[:-3], "record 12 "),
        (content + b"123", "record 13 "),
        (content[length:], ".* 12 .* 13"),
        (bytes([content[0] ^ 1]) + content[1:], ".*"),
    ):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=f"^{shard} .*{words}"):
            tfrecords.check_lengths(directory, "train")


@pytest.mark.parametrize("reader", [tfrecords.read, tfrecords.check])
def test_labels_out_of_range_are_named(copy, reader):
    config, path = copy
    features = json.loads((path / "features.json").read_text())
    features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = "5"
    (path / "features.json").write_text(json.dumps(features))
    with pytest.raises(InputError, match=r"0 to 4\. Example 5 of the train split .* 5"):
        reader(datasets.find(config), "train")


@pytest.mark.parametrize("packing", ["gzip", "zlib", "renamed", "small"])
def test_compressed_shards_are_named_as_such(copy, packing):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    if packing == "zlib":
        shard.write_bytes(zlib.compress(content))
    elif packing == "small":  # fewer bytes than its examples can have
        shard.write_bytes(gzip.compress(bytes(10_000)))
    else:
        shard.write_bytes(gzip.compress(content))
    if packing == "renamed":
        shard.rename(f"{shard}.gz")
    with pytest.raises(InputError, match=rf"{shard}(\.gz)? .*gunzip"):
        tfrecords.check(datasets.find(config), "train")


def test_a_damaged_shard_is_not_called_compressed(copy):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    shard.write_bytes(b"\x78\x01" + content[2:])  # a length of 376 bytes, as zlib's first two
    with pytest.raises(InputError, match=f"^{shard} .*features.json"):
        tfrecords.check(datasets.find(config), "train")


def test_the_largest_window_is_one_of_all_records(copy):
    config, _ = copy
    directory = datasets.find(config)
    epochs = []
    for window in (50, 2**63 - 1):
        stream = tfrecords.stream(
            directory, directory.splits["train"], Noise(0, 0), epoch=0, window=window, batch_size=10
        )
        epochs.append(np.concatenate([labels for _, labels, _ in stream.as_numpy_iterator()]))
    assert len(epochs[0]) == 50
    assert np.array_equal(*epochs)
