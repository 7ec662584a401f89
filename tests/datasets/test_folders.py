"""Images by class and ImageNet's layout: raw -> TFRecord -> rounds."""

import gzip
import io
import re
import shutil
import tarfile
import textwrap
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from lottery_tf import datasets, imp, pruning
from lottery_tf.benchmarks.input import input_rates
from lottery_tf.datasets import folders, image_files, prepare, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training
from tests.conftest import ROOT
from tests.datasets.conftest import write_folders


def write_image(path, size, seed, kind="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return pixels


@pytest.fixture
def large_images(tmp_path):
    """An ImageNet-shaped folder of 3 classes: 24 training and 6 validation images, of any size."""
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("n01", "n02", "n03")):
            for index in range(count):
                path = tmp_path / "raw" / split / name / f"{name}_{index}.JPEG"
                write_image(path, (70 + 9 * index, 90 + 5 * label), 100 * label + index)
    return tmp_path / "raw"


@pytest.fixture
def small_images(tmp_path):
    """A folder of 2 classes of 12 x 10 PNG images, and the pixels by (split, label)."""
    pixels = {}
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                path = tmp_path / "raw" / split / name / f"{index}.png"
                seed = (1000 if split == "test" else 100) * (label + 1) + index
                image = write_image(path, (12, 10), seed, "PNG")
                pixels.setdefault((split, label), set()).add(image.tobytes())
    return tmp_path / "raw", pixels


def tar(directory):
    """Packs the splits of a directory, as train.tar.gz with train/ inside, and removes them."""
    for split in [path for path in directory.iterdir() if path.is_dir()]:
        with tarfile.open(directory / f"{split.name}.tar.gz", "w:gz") as archive:
            archive.add(split, split.name)
        split.rename(directory.parent / f"packed_{split.name}")


def make(tmp_path, dataset, **options):
    options = {"data_dir": tmp_path / "data", "raw_dir": tmp_path / "raw"} | options
    return prepare.prepare(dataset, "raw", **options)


@pytest.mark.parametrize("packed", [False, True])
def test_small_images_of_one_size_are_stored_without_loss(config, small_images, tmp_path, packed):
    directory, pixels = small_images
    if packed:
        tar(directory)
    path = make(tmp_path, "image_folder", name="pets")
    assert path == tmp_path / "data" / "pets" / "1.0.0"
    found = datasets.find(config(dataset=str(tmp_path / "data" / "pets")))
    assert (found.image_shape, found.classes) == ((12, 10, 3), 2)
    for split in ("train", "test"):
        images, labels = tfrecords.read(found, split)
        for label in (0, 1):
            assert {image.tobytes() for image in images[labels == label]} == pixels[split, label]
    _, labels = tfrecords.read(found, "train")
    assert 0 < np.count_nonzero(np.diff(labels)) > 1  # mixed, not class by class


def test_large_images_keep_their_bytes(config, large_images, tmp_path):
    path = make(tmp_path, "imagenet2012")
    assert path == tmp_path / "data" / "imagenet2012" / "5.1.0"
    flags = {"dataset": "imagenet2012", "data_dir": str(tmp_path / "data"), "image_size": 64}
    directory = datasets.find(config(**flags))
    assert directory.image_shape == (None, None, 3)
    assert directory.input_shape == (64, 64, 3)
    parse = tfrecords.parser(directory)
    records = tf.data.TFRecordDataset([str(s.path) for s in directory.splits["train"].shards])
    stored = {parse(record)[0].numpy() for record in records}
    assert stored == {file.read_bytes() for file in (large_images / "train").glob("*/*")}


@pytest.mark.ci
def test_streamed_crops_do_not_depend_on_where_the_stream_begins(config, large_images, tmp_path):
    make(tmp_path, "imagenet2012")
    flags = {"dataset": "imagenet2012", "data_dir": str(tmp_path / "data"), "image_size": 32}
    directory = datasets.find(config(**flags))

    def batches(first_step=0, epoch=0, **options):
        options |= {"epoch": epoch, "window": 7, "batch_size": 5, "steps": (first_step, None)}
        stream = tfrecords.stream(directory, directory.splits["train"], Noise(0, 0), **options)
        return [images for images, _, _ in stream.as_numpy_iterator()]

    whole = batches()
    assert [batch.shape for batch in whole] == [(5, 32, 32, 3)] * 4
    assert all(np.array_equal(*pair) for pair in zip(whole[2:], batches(2), strict=True))
    assert not np.array_equal(whole[0], batches(epoch=1)[0])
    assert not np.array_equal(whole[0], batches(augment=False)[0])


@pytest.mark.slow
def test_resnet50_is_pruned_in_one_shot_on_an_imagenet_shaped_folder(
    config, large_images, tmp_path
):
    make(tmp_path, "imagenet2012")
    flags = {"model": "resnet50", "shortcut": "projection", "initializer": "kaiming_normal"}
    flags |= {"dataset": "imagenet2012", "data_dir": str(tmp_path / "data"), "image_size": 64}
    flags |= {"optimizer": "momentum", "learning_rate": 0.01, "batch_size": 8, "epochs": 1}
    settings = config(**flags, shuffle_window=8, rounds=2, prune_fraction=0.7)
    imp.main(settings)
    run = RunDir(settings.run_dir)
    assert run.metrics()[1]["density"] == pytest.approx(0.3, abs=1e-6)
    assert run.history(1)[0]["step"] == 3
    assert pruning.remaining(run.masks(0)) == 25_502_912 - 997 * 2048


@pytest.mark.slow
def test_resnet50_steps_at_224_pixels(config, large_images, tmp_path):
    make(tmp_path, "imagenet2012")
    flags = {"model": "resnet50", "shortcut": "projection", "dataset": "imagenet2012"}
    flags |= {"data_dir": str(tmp_path / "data"), "optimizer": "momentum", "batch_size": 4}
    settings = config(**flags, epochs=1)
    engine = Engine(settings, datasets.find(settings), connect(settings))
    initialization = engine.initialization
    before = initialization(0)
    after, _ = engine.train(Training(before, engine.dense_masks(), Noise(0, 0), last=1))
    assert all((after[path] != before[path]).any() for path in engine.dense_masks())


@pytest.mark.ci
def test_the_input_is_measured(config, large_images, tmp_path, monkeypatch):
    make(tmp_path, "imagenet2012")
    visits, visited = [], tfrecords.visited

    def noting(*arguments):
        records = visited(*arguments)
        visits.append([(record, tuple(draws)) for record, draws in records.as_numpy_iterator()])
        return records

    monkeypatch.setattr(tfrecords, "visited", noting)
    flags = {"dataset": "imagenet2012", "data_dir": str(tmp_path / "data"), "batch_size": 8}
    rates, peak = input_rates(config(**flags), images=20, repeats=2)
    assert list(rates) == ["stream", "bare decode"]
    assert all(len(found) == 2 and min(found) > 0 for found in rates.values())
    assert peak > 1e8
    _, *turns = visits  # the first epoch of the stream warms up, and so does a turn of both
    assert list(map(len, turns)) == [16] * 6
    # In a turn both ways visit the same parts of the same images; in the next one others.
    assert turns[::2] == turns[1::2]
    assert turns[0] != turns[2] != turns[4]


def test_an_unreadable_image_is_named_or_skipped(large_images, tmp_path, capsys):
    (large_images / "train" / "n02" / "n02_3.JPEG").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"n02/n02_3\.JPEG .*--skip_bad"):
        make(tmp_path, "imagenet2012")
    assert list((tmp_path / "data").iterdir()) == []
    make(tmp_path, "imagenet2012", skip_bad=True)
    assert "n02_3.JPEG" in capsys.readouterr().err


def image_file(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_images_are_counted_by_class_and_what_is_ignored_is_named(small_images, tmp_path, capsys):
    train = small_images[0] / "train"
    write_image(train / "cat" / "more" / "still" / "a.webp", (12, 10), 1, "WEBP")
    write_image(train / "cat" / "b.JFIF", (12, 10), 2)
    write_image(train / "outside.png", (12, 10), 3, "PNG")
    write_image(train / "cat" / ".c.png", (12, 10), 4, "PNG")
    write_image(train / ".ipynb_checkpoints" / "d.png", (12, 10), 5, "PNG")
    (train / "dog" / "notes.txt").write_text("none")
    (train / "dog" / "film.mpg").write_bytes(b"none")
    (train / "dog" / "nothing").write_bytes(b"none")
    write_image(small_images[0] / "val" / "cat" / "e.png", (12, 10), 6, "PNG")
    path = make(tmp_path, "image_folder", name="pets")
    told = capsys.readouterr().err
    assert "train: 22 images of 2 classes: cat 12, dog 10. 1 of them in folders below" in told
    assert "test: 8 images of 2 classes: cat 4, dog 4." in told
    assert "1 outside the folders of classes (outside.png)" in told
    assert "2 hidden (.ipynb_checkpoints/d.png, cat/.c.png)" in told
    assert "1 with the ending .txt (dog/notes.txt)" in told
    assert "1 with the ending .mpg (dog/film.mpg)" in told
    assert "1 without an ending (dog/nothing)" in told
    assert "val is not read" in told
    assert tfds.builder_from_directory(path).info.splits["train"].num_examples == 22


@pytest.mark.parametrize("outer", ["", "./", "train/", "./a/train/"])
def test_classes_of_an_archive_are_found_below_its_outer_folders(tmp_path, outer):
    archive = tmp_path / "train.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("._x", "README", "cat/a.png", "cat/deep/b.png", "dog/c.png", "dog/c.png"):
            member = tarfile.TarInfo(outer + name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    found, _ = folders.find(tmp_path, "train")
    assert found.images == {"cat/a.png": "cat", "cat/deep/b.png": "cat", "dog/c.png": "dog"}
    assert [name for name, _ in found.contents()] == list(found.images)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("damage", ["cut", "header"])
def test_an_archive_that_lost_its_end_is_refused(tmp_path, zipped, damage):
    """Python's tarfile takes both for the end of the archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name in ("cat/a.png", "dog/b.png"):
            tar.addfile(tarfile.TarInfo(name))  # without content: a header of 512 bytes
    content = bytearray(whole.getvalue())
    if damage == "cut":
        del content[512:]
    else:
        content[512:516] = b"none"
    file = tmp_path / "train.tar"
    file.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(InputError, match=r"train\.tar .* byte 512"):
        folders.find(tmp_path, "train")


def test_linked_folders_are_read_once(tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png", (4, 4), 0, "PNG")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    assert folders.find(tmp_path, "train")[0].images == {"cat/a.png": "cat"}


def test_skipped_images_are_named_once_without_addresses(small_images, tmp_path, capsys):
    directory, _ = small_images
    (directory / "train" / "cat" / "3.png").write_bytes(b"no image")
    (directory / "test" / "dog" / "2.png").write_bytes(
        image_file(np.zeros((9, 9), np.float32), "TIFF")
    )
    path = make(tmp_path, "image_folder", name="pets", skip_bad=True)
    told = capsys.readouterr().err
    assert told.count("cat/3.png is no readable image: Pillow knows no such format.") == 1
    assert told.count("dog/2.png is no readable image: its pixels are floating-point") == 1
    assert "0x" not in told
    info = tfds.builder_from_directory(path).info
    assert (info.splits["train"].num_examples, info.splits["test"].num_examples) == (19, 7)


def test_a_class_must_keep_images(small_images, tmp_path):
    directory, _ = small_images
    for file in (directory / "test" / "dog").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"test: .*dog"):
        make(tmp_path, "image_folder", name="pets", skip_bad=True)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_decompression_bomb_is_named_or_skipped(
    small_images, tmp_path, capsys, monkeypatch, skip_bad
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    write_image(small_images[0] / "train" / "cat" / "large.png", (30, 30), 0, "PNG")
    write_image(small_images[0] / "train" / "cat" / "bomb.png", (40, 40), 0, "PNG")
    words = r"cat/bomb\.png .* 1,000 pixels"
    if not skip_bad:
        with pytest.raises(InputError, match=words):
            make(tmp_path, "image_folder", name="pets")
        return
    path = make(tmp_path, "image_folder", name="pets", skip_bad=True)
    assert re.search(words, capsys.readouterr().err)
    assert tfds.builder_from_directory(path).info.splits["train"].num_examples == 21


def test_images_are_turned_as_exif_says_and_imagenet_is_not(large_images, tmp_path, capsys):
    turned = Image.Exif()
    turned[image_files.ORIENTATION] = 6  # a quarter turn clockwise makes it upright
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:, 40:] = 255
    file = large_images / "train" / "n01" / "n01_0.JPEG"
    file.write_bytes(image_file(stored, "JPEG", exif=turned))
    kept = make(tmp_path, "imagenet2012")
    assert "EXIF" not in capsys.readouterr().err
    made = make(tmp_path, "image_folder", name="photos")
    assert (
        "turned upright, as their EXIF orientation says: 1 (n01/n01_0.JPEG)."
        in capsys.readouterr().err
    )
    decode = {"image": tfds.decode.SkipDecoding()}
    images = {}
    for path in (kept, made):
        stored = tfds.builder_from_directory(path).as_dataset("train", decoders=decode)
        images[path] = {example["image"] for example in tfds.as_numpy(stored)}
    assert file.read_bytes() in images[kept]
    (upright,) = images[made] - images[kept]
    pixels = tf.io.decode_jpeg(upright).numpy()
    assert pixels.shape == (80, 40, 3)
    assert pixels[:38].max() < 10
    assert pixels[42:].min() > 245


def rename(*pairs):
    """A function that gives folders of a directory other names."""
    return lambda raw_dir: [(raw_dir / old).rename(raw_dir / new) for old, new in pairs]


def no_class(raw_dir):
    (raw_dir / "train").rename(raw_dir / "kept")
    (raw_dir / "train").mkdir()


def empty_class(raw_dir):
    for split in ("train", "val"):
        (raw_dir / split / "n04").mkdir()
        (raw_dir / split / "n04" / "a.heic").write_bytes(b"none")
        (raw_dir / split / "n05").mkdir()


def broken_tar(raw_dir):
    tar(raw_dir)
    content = (raw_dir / "train.tar.gz").read_bytes()
    (raw_dir / "train.tar.gz").write_bytes(content[: len(content) // 2])


# (what is wrong with folders of the classes n01, n02 and n03; what the error says)
WRONG = (
    (rename(("val/n03", "val/n04")), r"train and test .*: n03, n04"),
    (rename(("train/n02", "n02"), ("train/n03", "n03")), r"train\. Found: n01"),
    (no_class, "Found: none"),
    (empty_class, "n04, n05"),
    (rename(*((f"{s}/n03", f"{s}/n\n03") for s in ("train", "val"))), r"Found: 'n\\n03'"),
    (rename(("val", "kept")), r"raw .*test/ .*test\.tar\.gz"),
    (broken_tar, r"raw/train\.tar\.gz "),
)


@pytest.mark.parametrize(("damage", "words"), WRONG)
def test_wrong_folders_are_named(large_images, tmp_path, damage, words):
    damage(large_images)
    with pytest.raises(InputError, match=words):
        make(tmp_path, "imagenet2012")
    assert list((tmp_path / "data").iterdir()) == []


def test_cifar_wants_32_pixels_and_all_its_images(small_images, tmp_path, monkeypatch):
    monkeypatch.setitem(prepare.COUNTS, "cifar10", {"train": 20, "test": 8})
    with pytest.raises(InputError, match=r"cat/.*32 x 32.* 12 x 10"):
        make(tmp_path, "cifar10")
    monkeypatch.setitem(prepare.COUNTS, "cifar10", {"train": 21, "test": 8})
    with pytest.raises(InputError, match="21 examples in the train split"):
        make(tmp_path, "cifar10")


def test_the_levels_of_16_bits_are_told_and_scaled_by(tmp_path, capsys):
    cat, dog = (image_file(np.full((6, 5), level, np.uint16), "PNG") for level in (100, 4000))
    for split in ("train", "test"):
        write_folders(tmp_path / "raw" / split, {"cat/a.png": cat, "dog/a.png": dog})
    make(tmp_path, "image_folder", name="scans")
    told = capsys.readouterr().err
    assert "levels from 100 to 4000, and 65535 becomes 255" in told
    assert "--white_level=4095" in told
    path = make(tmp_path, "image_folder", name="scans", white_level=4095, overwrite=True)
    assert "--white_level" not in capsys.readouterr().err
    examples = tfds.as_numpy(tfds.builder_from_directory(path).as_dataset("train"))
    assert sorted(example["image"].max() for example in examples) == [6, 249]
    for white in (0, 70_000):
        with pytest.raises(InputError, match=f"--white_level: .* 1 to 65535.* {white}"):
            make(tmp_path, "image_folder", name="scans", white_level=white)
    with pytest.raises(InputError, match=r"--white_level .*--dataset=image_folder"):
        make(tmp_path, "mnist", white_level=4095)


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("train", "valid"), ("TRAIN", "Val"), ("training", "testing")],
)
def test_splits_of_further_names(small_images, tmp_path, names):
    directory, _ = small_images
    for split, name in zip(("train", "test"), names, strict=True):
        (directory / split).rename(directory / "aside")
        (directory / "aside").rename(directory / name)
    info = tfds.builder_from_directory(make(tmp_path, "image_folder", name="pets")).info
    counts = {name: split.num_examples for name, split in info.splits.items()}
    assert counts == {"train": 20, "test": 8}


@pytest.mark.parametrize("layout", ["train", "classes"])
def test_folders_without_a_test_split_are_a_training_split(small_images, tmp_path, layout):
    directory, _ = small_images
    shutil.rmtree(directory / "test")
    if layout == "classes":
        for name in ("cat", "dog"):
            (directory / "train" / name).rename(directory / name)
        (directory / "train").rmdir()
    path = make(tmp_path, "image_folder", name="pets")
    lines = prepare.describe(path, "pets")
    assert lines[0].startswith("train 20 examples")
    assert lines[-1].endswith("--test_fraction=0.1")


def test_directories_that_hold_no_folders_of_classes_say_what_to_do(small_images, tmp_path):
    directory, _ = small_images
    (directory / "train").rename(directory / "aside")
    with pytest.raises(InputError, match=r"raw .*train/"):  # a test split alone
        make(tmp_path, "image_folder", name="pets")
    (directory / "aside").rename(directory / "train")
    inner = tmp_path / "raw" / "archive"
    inner.mkdir()
    for split in ("train", "test"):
        (directory / split).rename(inner / split)
    with pytest.raises(InputError, match=r"--raw_dir=.*archive"):
        make(tmp_path, "image_folder", name="pets")
    shutil.rmtree(inner)
    with pytest.raises(InputError, match="Found: nothing"):
        make(tmp_path, "image_folder", name="pets")
    (directory / "photos.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"Unpack photos\.zip.*--raw_dir"):
        make(tmp_path, "image_folder", name="pets")
    write_image(directory / "a.png", (4, 4), 0, "PNG")
    (directory / "labels.csv").write_text("file,label\na.png,cat\n")
    with pytest.raises(InputError, match=r"labels\.csv .*docs/guides/data\.md"):
        make(tmp_path, "image_folder", name="pets")
    write_image(directory / "train" / "a.png", (4, 4), 0, "PNG")
    with pytest.raises(InputError, match=r"Found: none.*labels\.csv "):
        make(tmp_path, "image_folder", name="pets")
    with pytest.raises(InputError, match=r"--raw_dir=\S*photos\.zip .*Unpack"):
        make(tmp_path, "image_folder", name="pets", raw_dir=str(directory / "photos.zip"))


def test_the_lines_of_the_docs_sort_images_by_a_csv_file(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "guides" / "data.md").read_text()
    lines = re.search(r"## Labels in a CSV file.*?\n\n((    [^\n]*\n)+)", text, re.S)[1]
    (tmp_path / "photos").mkdir()
    rows = [("a", "cat"), ("b", "dog"), ("c", "cat")]
    for name, _ in rows:
        write_image(tmp_path / "photos" / f"{name}.png", (4, 4), ord(name), "PNG")
    table = "".join(f"{name}.png,{label}\n" for name, label in rows)
    (tmp_path / "labels.csv").write_text(f"file,label\n{table}")
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(lines), {})
    path = make(tmp_path, "image_folder", name="pets", raw_dir=tmp_path / "by_class")
    assert prepare.describe(path, "pets")[0].endswith("2 classes: cat, dog.")


@pytest.mark.parametrize("link", ["missing.png", "/nowhere/at/all.png"])
def test_links_that_lead_nowhere_are_named_or_skipped(small_images, tmp_path, capsys, link):
    directory, _ = small_images
    (directory / "train" / "cat" / "gone.png").symlink_to(link)
    with pytest.raises(InputError, match=r"cat/gone\.png .*--skip_bad"):
        make(tmp_path, "image_folder", name="pets")
    path = make(tmp_path, "image_folder", name="pets", skip_bad=True)
    assert tfds.builder_from_directory(path).info.splits["train"].num_examples == 20
    assert capsys.readouterr().err.count("cat/gone.png cannot be read: No such file") == 1


@pytest.mark.parametrize("outer", ["", "train/", "a\\train\\"])
@pytest.mark.parametrize("ending", [".zip", ".ZIP", ".tar.xz", ".tar.bz2"])
def test_archives_of_further_kinds(small_images, tmp_path, outer, ending):
    directory, _ = small_images
    inside = outer.replace("\\", "/") if "tar" in ending else outer
    files = sorted((directory / "train").glob("*/*"))
    archive = directory / f"train{ending}"
    if "tar" in ending:
        with tarfile.open(archive, f"w:{ending[5:]}") as tar:
            for file in files:
                tar.add(file, f"{inside}{file.parent.name}/{file.name}")
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("__MACOSX/._a.png", b"none")
            for file in files:
                name = f"{file.parent.name}/{file.name}"
                packed.write(file, inside + name.replace("/", "\\" if "\\" in inside else "/"))
    shutil.rmtree(directory / "train")
    path = make(tmp_path, "image_folder", name="pets")
    assert tfds.builder_from_directory(path).info.splits["train"].num_examples == 20


@pytest.mark.parametrize("damage", ["cut", "member", "encrypted"])
def test_damaged_zip_files_are_named(small_images, tmp_path, damage):
    directory, _ = small_images
    archive = directory / "train.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted((directory / "train").glob("*/*")):
            packed.write(file, f"{file.parent.name}/{file.name}")
    shutil.rmtree(directory / "train")
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        archive.write_bytes(content[:-30])
        with pytest.raises(InputError, match=r"train\.zip "):
            make(tmp_path, "image_folder", name="pets")
        return
    if damage == "member":
        content[100] ^= 255
    else:
        content[6] |= 1  # the flags of the first member, and of its entry in the directory
        content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"cat/0\.png .*--skip_bad"):
        make(tmp_path, "image_folder", name="pets")
    path = make(tmp_path, "image_folder", name="pets", skip_bad=True)
    assert tfds.builder_from_directory(path).info.splits["train"].num_examples == 19
