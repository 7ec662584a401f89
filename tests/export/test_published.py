"""Tickets that others train again: what is stored, what comes back, and the zoo."""

import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.datasets import prepare, writing
from lottery_tf.datasets.image_files import Reading
from lottery_tf.errors import InputError
from lottery_tf.export import published, ticket
from lottery_tf.rundir import RunDir
from lottery_tf.runs import files
from tests.conftest import ROOT
from tests.launching import launch

pytestmark = pytest.mark.versions

ZOO = sorted((ROOT / "data" / "tickets").glob("*.npz"))
LARGEST = 200_000  # bytes of a ticket of the zoo


def made(tmp_path_factory, **flags):
    """(a run of the digits, the path of the ticket of its last round)."""
    directory = tmp_path_factory.mktemp("published")
    result = launch(directory / "run", rounds=2, epochs=2, prune_fraction=0.7, **flags)
    assert result.returncode == 0, result.stderr
    found = ticket.of_run(directory / "run", "1", examples=10)
    path = directory / "one.npz"
    published.of_network(found.masked, found.provenance, found.source).save(path)
    return RunDir(directory / "run"), path


@pytest.fixture(scope="module")
def from_w_0(tmp_path_factory):
    return made(tmp_path_factory)


@pytest.fixture(scope="module")
def rewound(tmp_path_factory):
    return made(tmp_path_factory, reset="rewind", rewind_to=20)


def same(one, other):
    return one.keys() == other.keys() and all(
        one[path].dtype == other[path].dtype and one[path].tobytes() == other[path].tobytes()
        for path in one
    )


def test_a_ticket_is_what_the_round_holds(from_w_0):
    run, path = from_w_0
    found = lottery_tf.load_ticket(path)
    assert same(found.masks, run.masks(1))
    assert same(found.initial_weights, run.initial(1))
    assert found.rewind_weights is None
    assert same(found.weights, run.final(1))
    assert found.provenance["weights_sha256"] == published.digest(found.weights)
    assert found.provenance["round"] == 1
    assert path.stat().st_size < 0.6 * (run.round_path(1) / "final.npz").stat().st_size


def test_a_ticket_without_its_trained_weights_is_half_as_large(from_w_0, tmp_path):
    run, path = from_w_0
    lottery_tf.load_ticket(path).save(tmp_path / "half.npz", weights=False)
    assert (tmp_path / "half.npz").stat().st_size < 0.65 * path.stat().st_size
    found = lottery_tf.load_ticket(tmp_path / "half.npz")
    assert found.weights is None
    assert same(found.start, run.initial(1))
    lottery_tf.load_ticket(path).save(tmp_path / "whole.npz")
    assert (tmp_path / "whole.npz").read_bytes() == path.read_bytes()


def test_a_ticket_that_was_rewound_has_both_of_its_beginnings(rewound):
    run, path = rewound
    found = lottery_tf.load_ticket(path)
    assert same(found.rewind_weights, run.initial(1))
    kernel = "hidden1/kernel"
    first = np.where(found.masks[kernel], run.initial(0)[kernel], 0)
    assert found.initial_weights[kernel].tobytes() == first.astype(np.float32).tobytes()
    assert found.start is found.rewind_weights


@pytest.mark.parametrize("which", ["from_w_0", "rewound"])
def test_a_ticket_that_is_trained_again_gives_the_same_bytes(which, request):
    run, path = request.getfixturevalue(which)
    weights, history = lottery_tf.load_ticket(path).train(data_dir=str(ROOT / "data"))
    assert same(weights, run.final(1))
    assert history[-1]["test_accuracy"] == run.history(1)[-1]["test_accuracy"]


def test_the_model_of_a_ticket_is_masked_and_at_its_start(from_w_0):
    run, path = from_w_0
    found = lottery_tf.load_ticket(path)
    model = found.model
    assert same(masking.get_masks(model), run.masks(1))
    assert same(masking.get_weights(model), run.initial(1))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    model.fit(images, np.arange(32) % 10, verbose=0)
    after = masking.get_weights(model)
    assert not same(after, run.initial(1))
    assert not any(after[path][~mask].any() for path, mask in found.masks.items())


@pytest.mark.ci
def test_the_model_of_a_ticket_is_built_on_jax():
    pytest.importorskip("jax")
    script = (
        "import sys, lottery_tf\n"
        f"ticket = lottery_tf.load_ticket({str(ZOO[-1])!r})\n"
        "model = ticket.model\n"
        "import keras, numpy as np\n"
        "from lottery_tf import masking\n"
        "weights, masks = masking.get_weights(model), masking.get_masks(model)\n"
        "same = all(np.array_equal(weights[path], ticket.start[path]) for path in ticket.start)\n"
        "same &= all(np.array_equal(masks[path], ticket.masks[path]) for path in ticket.masks)\n"
        "print(keras.backend.backend(), same, len(model(np.zeros((3, 28, 28, 1)))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["jax", "True", "3"]


def test_other_data_are_named(from_w_0, tmp_path):
    _, path = from_w_0
    arrays = files.parse_npz(path.read_bytes())
    about = json.loads(arrays["about"].tobytes())
    about["provenance"]["data"]["fingerprint"]["train"]["sha256"] = "0" * 64
    changed = arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    (tmp_path / "other.npz").write_bytes(files.format_npz(changed))
    with pytest.raises(InputError, match=r"other data.*0{64}"):
        lottery_tf.load_ticket(tmp_path / "other.npz").train(data_dir=str(ROOT / "data"))
    about["provenance"]["flags"]["repel"] = 1.0
    changed = arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    (tmp_path / "other.npz").write_bytes(files.format_npz(changed))
    with pytest.raises(InputError, match="repelled"):
        lottery_tf.load_ticket(tmp_path / "other.npz").train()


def test_what_is_no_ticket_is_named(from_w_0, tmp_path):
    _, path = from_w_0
    with pytest.raises(InputError, match=r"nowhere: expected a ticket"):
        lottery_tf.load_ticket(tmp_path / "nowhere")
    (tmp_path / "text.npz").write_text("no ticket")
    with pytest.raises(InputError, match=r"text\.npz is no ticket"):
        lottery_tf.load_ticket(tmp_path / "text.npz")
    arrays = files.parse_npz(path.read_bytes())
    for wrong in (
        {name: array for name, array in arrays.items() if name != "weights/logits/kernel"},
        arrays | {"masks/logits/kernel": arrays["masks/logits/kernel"][:-1]},
        arrays | {"weights/logits/kernel": arrays["weights/logits/kernel"][:, 1:]},
    ):
        (tmp_path / "damaged.npz").write_bytes(files.format_npz(wrong))
        with pytest.raises(InputError, match=r"damaged\.npz is no ticket"):
            lottery_tf.load_ticket(tmp_path / "damaged.npz")


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_the_tickets_of_the_zoo_are_small_and_what_their_names_say(path):
    found = lottery_tf.load_ticket(path)
    network, data, seed, density = re.fullmatch(
        r"(\w+?)_(\w+?)_seed(\d)_density([\d.]+)", path.stem
    ).groups()
    assert path.stat().st_size <= LARGEST
    flags = found.provenance["flags"]
    assert (flags["model"], pathlib.Path(flags["dataset"]).name) == (network, data)
    assert str(flags["seed"]) == seed
    masks = found.masks.values()
    alive = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert 100 * alive == pytest.approx(float(density), abs=0.05)
    if found.weights is not None:
        assert published.digest(found.weights) == found.provenance["weights_sha256"]
    assert found.model(np.zeros((1, *found.model.input_shape[1:]), np.float32)).shape == (1, 10)


@pytest.mark.ci
@pytest.mark.parametrize(("data", "shrink"), [("mnist", 1), ("cifar10", 2)])
def test_a_ticket_of_the_zoo_has_its_accuracy_on_real_images(data, shrink, raw_data, tmp_path):
    directory, test = raw_data / data, raw_data / data / "test.tar.gz"
    if test.exists():  # the 50,000 training images beside it would be read, too
        directory = tmp_path
        for split in ("train", "test"):
            (tmp_path / f"{split}.tar.gz").symlink_to(test)
    read = prepare.RAW[data](directory, Reading())
    examples = writing.smaller(read, shrink)["test"].examples()
    _, images, labels = map(np.stack, zip(*examples, strict=True))
    found = next(of for of in map(lottery_tf.load_ticket, of_data(data)) if of.weights)
    normal = found.provenance["normalisation"]
    pixels = (images / np.float32(normal["white"]) - normal["mean"]) / normal["std"]
    masking.set_weights(found.model, found.weights, found.masks)
    right = found.model.predict(pixels, batch_size=500, verbose=0).argmax(-1) == labels
    assert len(right) == found.provenance["test_examples"]
    assert right.mean() == pytest.approx(found.provenance["test_accuracy"], abs=2e-4)


def of_data(data):
    return [path for path in ZOO if f"_{data}_" in path.name]


def test_there_is_a_zoo():
    assert len(of_data("mnist")) == 6
