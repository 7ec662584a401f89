"""The method on one page, of NumPy and Keras alone, against the product.

Both draw the same numbers, and begin with equal bits. The compiler may add in another order in one
of them, and a training carries such a difference on, as it does between two kinds of CPU.
"""

import importlib.util
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import imp
from lottery_tf.runs.rundir import RunDir
from tests import forked
from tests.conftest import ROOT

PAGE = ROOT / "examples" / "imp_in_150_lines.py"
ROUNDS, EPOCHS = 4, 6
WEIGHTS = 50_200
# In how many weights masks may differ: after one training from equal bits, and after further ones.
ROUNDING, DRIFT = 25, WEIGHTS // 20


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A file of the embedded digits, its arrays named as in Keras's mnist.npz."""
    arrays = {}
    for split in ("train", "test"):
        (file,) = (ROOT / "data" / "digits" / "1.0.0").glob(f"digits-{split}.tfrecord-*")
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
        features = [tf.train.Example.FromString(record).features.feature for record in records]
        images = [tf.io.decode_png(one["image"].bytes_list.value[0]) for one in features]
        arrays[f"x_{split}"] = np.stack(images)[..., 0]
        arrays[f"y_{split}"] = np.array([one["label"].int64_list.value[0] for one in features])
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("page", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differing(masks, others):
    """In how many weights masks differ."""
    pairs = zip(masks, others, strict=True)
    return sum(np.count_nonzero(mask != other) for mask, other in pairs)


@pytest.mark.parametrize(
    "reset",
    [pytest.param("init", marks=pytest.mark.ci), pytest.param("reinit", marks=pytest.mark.slow)],
)
def test_masks_and_accuracies_are_the_products(reset, page, digits, config):
    made = config(rounds=ROUNDS, epochs=EPOCHS, reset=reset)
    assert imp.main(made) == 0
    run = RunDir(made.run_dir)
    train, test = page.load(digits)
    for round, masks, accuracy in page.imp(train, test, ROUNDS, EPOCHS, reset == "reinit"):
        expected = list(run.masks(round).values())
        start = page.initial_weights((8, 8, 1), round if reset == "reinit" else 0)
        for index, array in enumerate(run.initial(round).values()):
            mask = 1 if index % 2 else expected[index // 2]  # of biases, none
            np.testing.assert_array_equal(start[index] * mask, array)
        sums = [sum(mask.sum() for mask in all) for all in (masks, expected)]
        assert sums[0] == sums[1]
        assert differing(masks, expected) <= (ROUNDING if round <= 1 else DRIFT)
        assert abs(accuracy - run.history(round)[-1]["test_accuracy"]) <= 4 / 450
    # The same examples in another order prune far more weights otherwise than rounding does.
    other = [array[::-1] for array in train]
    *_, (_, masks, _) = page.imp(other, test, 2, EPOCHS)
    assert differing(masks, list(run.masks(1).values())) > 10 * ROUNDING


def test_it_prints_a_table_and_is_a_page(digits, tmp_path):
    lines = PAGE.read_text().splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if line.startswith(("import lottery", "from lottery"))]
    command = [forked.python(), PAGE, digits, "--rounds=2", "--epochs=1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["round", "density", "ticket", "reinit"]
    assert [row.split()[1] for row in rows] == ["100.00%", "80.00%"]
