"""The commands that README.md and docs/ name, and tiny flag files and data to run them on."""

import itertools
import re
import shutil

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lottery_tf.datasets.raw import CIFAR_CLASSES
from tests import synthetic
from tests.conftest import ROOT
from tests.parquet_files import write_hub

DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
)
_COMMAND = re.compile(r"(\w+=\S+ )*(python -m (tools|lottery_tf)\.|lottery[- ][a-z]|[A-Z]=\")")
_TINY = {
    "--epochs=.*": "--epochs=2",
    "--schedule=step": "--schedule=constant",
    "--lr_drops=.*": "",
    "--warmup_epochs=.*": "",
    "--batch_size=.*": "--batch_size=20",
    "--rounds=.*": "--rounds=4",
    "--short_epochs=.*": "--short_epochs=1",
    "--rewind_to=.*": "--rewind_to=1",
    "--grid=seed=.*": "--grid=seed=0",
    "--grid=batch_size=.*": "--grid=batch_size=10,20",
    "--grid=warmup_epochs=.*": "--grid=warmup_epochs=0,1",
    "--train_examples=.*": "",
    "--densities=.*": "--densities=0.2",
    "--model=(resnet20|conv4)": "--model=lenet",
    "--shortcut=.*|--(no)?bn_affine.*": "",
}
# Of the command line, for the few rounds and steps that there are.
_FEW = {
    r"--round=\d+": "--round=3",
    r"--at_rounds=\d+\b(?!,)": "--at_rounds=2",
    r"--at_rounds=\d+(,\d+)+": "--at_rounds=1,2",
    r"--pairs=\S+": "--pairs=1-1,2-2",
    r"--rounds=(11|15|21)": "--rounds=4",
    "rewind:500": "rewind:2",
}


def cut(command):
    """A command with numbers of the rounds and steps that there are."""
    for pattern, few in _FEW.items():
        command = re.sub(pattern, few, command)
    return command


def commands(text):
    """(command, the error that stands below it or None) of each, in the order of the text.

    Commands stand in blocks, indented or fenced, with or without "$ " before them, or in backticks.
    """
    lines = [*re.sub(r"\\\n\s*", "", text).splitlines(), ""]
    found = []
    for line, after in itertools.pairwise(lines):
        command = line.strip().removeprefix("$ ")
        if _COMMAND.match(command) and (line.startswith("    ") or not line.startswith(" ")):
            error = after.strip() if after.strip().startswith("Error: ") else None
            found.append((re.sub(r"\s+#.*", "", command), error))
            continue
        found += [(inline, None) for inline in re.findall(r"`([^`]+)`", line) if runs(inline)]
    return found


def runs(inline):
    """Whether what stands in backticks is a command with its flags."""
    return bool(_COMMAND.match(inline)) and "--" in inline and "…" not in inline


def write_folders(path):
    """Images of CIFAR-10's size and classes in folders: 30 of each split."""
    generator = np.random.default_rng(0)
    for split, name in itertools.product(("train", "test"), CIFAR_CLASSES["cifar10"]):
        (path / split / name).mkdir(parents=True)
        for i, image in enumerate(generator.integers(0, 256, (3, 32, 32, 3), np.uint8)):
            Image.fromarray(image).save(path / split / name / f"{i}.png")


def write_place(path):
    """A directory with the flag files, cut to one epoch of tiny data, and those data."""
    shutil.copytree(ROOT / "flags", path / "flags")
    for file in (path / "flags").rglob("*.cfg"):
        text = file.read_text()
        for pattern, replacement in _TINY.items():
            text = re.sub(f"^({pattern})$", replacement, text, flags=re.MULTILINE)
        file.write_text(text)
    shutil.copytree(ROOT / "data" / "digits", path / "data" / "digits")
    for name, shape in (("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))):
        synthetic.write_dataset(path / "data", shard_lengths=[60], name=name, shape=shape)
    images, labels = synthetic.shaded(80)
    arrays = {"x_train": images[:60], "y_train": labels[:60]}
    np.savez(path / "shades.npz", x_test=images[60:], y_test=labels[60:], **arrays)
    write_hub(path)
    write_folders(path / "downloads" / "cifar10")
    plants = [{"photo": image[..., None], "kind": i % 3} for i, image in enumerate(images)]
    features = {
        "photo": tfds.features.Image(shape=(6, 5, 1)),
        "kind": tfds.features.ClassLabel(num_classes=3),
    }
    synthetic.store(path / "own", features, {"train": plants}, name="plants")
    return path
