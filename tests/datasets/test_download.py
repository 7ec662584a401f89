"""Any image classification of TensorFlow Datasets, by its name."""

import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lottery_tf import datasets, imp
from lottery_tf.datasets import download, prepare
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from tests.datasets.conftest import flags_said
from tests.synthetic import write_dataset

pytestmark = pytest.mark.versions


def made(count):
    """Images whose brightness is their label."""
    for index in range(count):
        label = index % 3
        image = np.full((6, 5, 1), 40 + 80 * label + index % 7, np.uint8)
        yield index, {"photo": image, "shade": label, "half": index % 2}


class LotteryShades(tfds.core.GeneratorBasedBuilder):
    """A dataset that TFDS knows by its name, of two configurations."""

    VERSION = tfds.core.Version("2.1.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="whole", description="with a test split"),
        tfds.core.BuilderConfig(name="bare", description="without one"),
    ]

    def _info(self):
        features = {
            "half": tfds.features.ClassLabel(num_classes=2),
            "photo": tfds.features.Image(shape=(6, 5, 1)),
            "shade": tfds.features.ClassLabel(names=["dark", "gray", "light"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("photo", "shade")
        )

    def _split_generators(self, dl_manager):
        splits = {"train": made(36)}
        return splits | ({"test": made(12)} if self.builder_config.name == "whole" else {})

    def _generate_examples(self):
        raise NotImplementedError


class LotteryPoems(tfds.core.GeneratorBasedBuilder):
    """A dataset of text."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = None

    def _info(self):
        text = tfds.features.Text()
        features = {"text": text, "label": tfds.features.ClassLabel(num_classes=2)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        raise AssertionError("it is not asked for its files")

    def _generate_examples(self):
        raise NotImplementedError


class LotteryByHand(LotteryShades):
    """A dataset whose files are downloaded by hand."""

    BUILDER_CONFIGS = []  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask its makers\n  for the files."

    def _split_generators(self, dl_manager):
        return {"train": made(int((dl_manager.manual_dir / "count.txt").read_text()))}


@pytest.mark.parametrize(
    ("name", "splits", "flags"),
    [
        ("lottery_shades", {"train": 36, "test": 12}, []),
        ("lottery_shades/whole", {"train": 36, "test": 12}, []),
        ("lottery_shades/bare", {"train": 36}, ["--test_fraction=0.1"]),
    ],
)
def test_a_dataset_of_tfds_is_prepared_and_says_how_to_train_on_it(tmp_path, name, splits, flags):
    path = prepare.prepare(name, "tfds", data_dir=tmp_path)
    full = "lottery_shades/bare" if name.endswith("bare") else "lottery_shades/whole"
    assert path == tmp_path / full / "2.1.0"
    lines = prepare.describe(path, full)
    counts = ", ".join(f"{split} {count}" for split, count in splits.items())
    assert lines[0] == f"{counts} examples; images 6 x 5 x 1 uint8; 3 classes: dark, gray, light."
    assert lines[1] == "Other labels, for --label_key: half."
    keys = ["--image_key=photo", "--label_key=shade"]
    assert flags_said(path, full) == [f"--dataset={tmp_path / full}", *flags, *keys]


@pytest.mark.ci
def test_the_command_that_is_said_trains_on_it(tmp_path, config):
    path = prepare.prepare("lottery_shades/bare", "tfds", data_dir=tmp_path)
    words = flags_said(path, "lottery_shades/bare")
    flags = dict(word.removeprefix("--").split("=") for word in words)
    flags["test_fraction"] = float(flags["test_fraction"])
    settings = config(**flags, rounds=2, epochs=4, batch_size=8)
    imp.main(settings)
    assert len(RunDir(settings.run_dir).metrics()) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fasion_mnist", r"fasion_mnist.* fashion_mnist"),
        ("svhn", "svhn_cropped"),
        ("qqqqzz", "qqqqzz.*--source=raw"),
        ("../mnist", "--dataset:.*emnist/letters"),
        ("mnist:3.0.1", "--dataset:.*emnist/letters"),
        ("huggingface:beans", "--dataset:.*emnist/letters"),
        ("emnist/leters", r"emnist .*leters.* letters"),
        ("mnist/own", r"--dataset: mnist .*own"),
        ("lottery_poems", r"lottery_poems .*text \(Text\), label"),
        ("coco", r"coco/2014 .*objects \(Sequence\)"),
        ("celeb_a", r"celeb_a .*identity \(FeaturesDict\)"),
        ("ucf101", r"ucf101.*video \(Video\)"),
        ("lottery_by_hand", r"lottery_by_hand.*--raw_dir.*Ask its makers for the files"),
    ],
)
def test_what_is_no_image_classification_of_tfds_is_refused_first(tmp_path, name, words):
    with pytest.raises(InputError, match=words) as error:
        prepare.prepare(name, "tfds", data_dir=tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_trained_on_is_refused_before_the_download(tmp_path, monkeypatch):
    features = {
        "image": tfds.features.Image(shape=(4, 4, 3)),
        "label": tfds.features.ClassLabel(num_classes=1),
    }

    def info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    monkeypatch.setattr(LotteryShades, "_info", info)
    with pytest.raises(InputError, match=r"^lottery_shades/whole: .*label.* 1$"):
        prepare.prepare("lottery_shades", "tfds", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_files_that_were_downloaded_by_hand(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "count.txt").write_text("9")
    path = prepare.prepare(
        "lottery_by_hand", "tfds", data_dir=tmp_path / "data", raw_dir=tmp_path / "files"
    )
    assert prepare.describe(path, "lottery_by_hand")[0].startswith("train 9 examples")


def test_whatever_a_builder_raises_is_one_line(tmp_path, monkeypatch):
    def fail(self, dl_manager):
        raise ZeroDivisionError("in the middle\nof a builder")

    monkeypatch.setattr(LotteryShades, "_split_generators", fail)
    words = "lottery_shades/whole: in the middle of a builder.*--source=raw"
    with pytest.raises(InputError, match=words):
        prepare.prepare("lottery_shades", "tfds", data_dir=tmp_path)


def test_without_a_network_the_server_is_named(tmp_path, monkeypatch):
    def unreachable(urls):
        raise OSError("example.org cannot be reached (timed out)")

    monkeypatch.setattr(download, "_check_reach", unreachable)
    with pytest.raises(InputError, match=r"kmnist: example\.org .*timed out"):
        prepare.prepare("kmnist", "tfds", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "svhn_cropped", "stl10", "emnist"])
def test_datasets_of_tfds_that_are_image_classification(name, tmp_path):
    download.check(download.full_name(name), None)


def test_tensors_to_be_classified_are_images():
    tensor = tfds.features.Tensor(shape=(4, 4, 9), dtype=np.float32)
    label = tfds.features.ClassLabel(num_classes=2)
    features = tfds.features.FeaturesDict({"bands": tensor, "label": label})
    download.check_kind(
        "bands", types.SimpleNamespace(features=features, supervised_keys=("bands", "label"))
    )
    with pytest.raises(InputError, match=r"bands \(Tensor\)"):
        download.check_kind("bands", types.SimpleNamespace(features=features, supervised_keys=None))


def test_a_known_dataset_is_trained_on_by_its_name(tmp_path, config):
    path = write_dataset(tmp_path / "data", shard_lengths=[20], name="mnist", shape=(28, 28, 1))
    words = flags_said(path, "mnist")
    assert words == ["--dataset=mnist", f"--data_dir={tmp_path / 'data'}"]
    flags = dict(word.removeprefix("--").split("=") for word in words)
    assert datasets.find(config(**flags)).path == path
