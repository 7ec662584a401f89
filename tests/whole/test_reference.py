"""Whole experiments on a linear network against float64 NumPy, from the raw pixels on.

Of the package it takes the streams of random numbers alone: what they are drawn for is tested.
"""

import subprocess

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import imp
from lottery_tf.datasets import augmentation
from lottery_tf.datasets.order import visit_order
from lottery_tf.pruning.streams import Noise
from lottery_tf.runs.files import parse_npz
from lottery_tf.runs.rundir import RunDir
from tests import forked
from tests.conftest import ROOT
from tests.synthetic import write_dataset

pytestmark = pytest.mark.versions

SHARDS, BATCH, WINDOW, EPOCHS = [20, 12, 16], 8, 16, 2
STEPS = sum(SHARDS) // BATCH  # per epoch
# Name: shape of the images, and mean and standard deviation by channel; None: those of the images.
DATASETS = {
    "digits": ((8, 8, 1), (0.3052,), (0.3760,)),
    "cifar10": ((32, 32, 3), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "own": ((9, 7, 3), None, None),
}
KERNEL, BIAS = "logits/kernel", "logits/bias"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for name, (shape, *_) in DATASETS.items():
        write_dataset(path, shard_lengths=SHARDS, name=name, shape=shape)
    return path


def raw(data_dir, name, split):
    """(uint8 images, labels) of a split, read by TensorFlow alone."""
    images, labels = [], []
    features = {"image": tf.io.FixedLenFeature([], tf.string),
                "label": tf.io.FixedLenFeature([], tf.int64)}  # fmt: skip
    for file in sorted((data_dir / name / "1.0.0").glob(f"{name}-{split}.tfrecord-*")):
        for record in tf.data.TFRecordDataset(str(file)):
            example = tf.io.parse_single_example(record, features)
            images.append(tf.io.decode_png(example["image"]).numpy())
            labels.append(int(example["label"]))
    return np.stack(images), np.array(labels)


def flip_crop(image, words):
    """Flipped where the first word is odd; cropped where the second one says, 4 pixels padded."""
    height, width, _ = image.shape
    top, left = words[1] % 9, words[1] // 9 % 9
    crop = np.pad(image, [(4, 4), (4, 4), (0, 0)])[top : top + height, left : left + width]
    return crop[:, ::-1] if words[0] % 2 else crop


class Reference:
    """The experiment of a Config on a linear network."""

    def __init__(self, data_dir, name, config):
        self.config = config
        self.train, self.test = (raw(data_dir, name, split) for split in ("train", "test"))
        _, self.mean, self.std = DATASETS[name]
        if self.mean is None:
            pixels = self.train[0] / 255
            self.mean, self.std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))

    def inputs(self, images):
        return ((np.stack(images) / 255 - self.mean) / self.std).reshape(len(images), -1)

    def losses(self, weights, inputs, labels):
        """(Cross-entropies, their gradients by the logits)."""
        logits = inputs @ weights[KERNEL] + weights[BIAS]
        softmax = np.exp(logits - logits.max(1, keepdims=True))
        softmax /= softmax.sum(1, keepdims=True)
        return -np.log(softmax[np.arange(len(labels)), labels]), softmax - np.eye(10)[labels]

    def batch(self, noise, step):
        """(inputs, labels) of a step, in the order and with the augmentation of its noise."""
        epoch, place = divmod(step, STEPS)
        order = visit_order(SHARDS, noise, epoch, window=WINDOW)[2]
        words = augmentation.draw(noise, epoch, sum(SHARDS))
        taken = order[place * BATCH : (place + 1) * BATCH]
        images = [flip_crop(self.train[0][index], words[index]) for index in taken]
        return self.inputs(images), self.train[1][taken]

    def trained(self, start, mask, noise, optima=(), first=0, last=EPOCHS * STEPS):
        """(weights, mean training loss of the last epoch) after steps first to last - 1.

        Args:
            optima: (kernel, importance) of each optimum to be repelled from.
        """
        weights, losses = {path: array.astype(float) for path, array in start.items()}, []
        for step in range(first, last):
            inputs, labels = self.batch(noise, step)
            loss, errors = self.losses(weights, inputs, labels)
            losses.append(loss.mean())
            gradients = {KERNEL: inputs.T @ errors / BATCH, BIAS: errors.mean(0)}
            for path in weights:
                gradients[path] += self.config.weight_decay * weights[path]
            gradients[KERNEL] += self.repulsion(weights[KERNEL], mask, optima)
            for path in weights:
                weights[path] = weights[path] - self.config.learning_rate * gradients[path]
            weights[KERNEL] *= mask
        return weights, np.mean(losses[-STEPS:])

    def repulsion(self, kernel, mask, optima):
        """The gradient of J_r = strength / k * sum_i cos_i^2, once, however many replicas."""
        total = np.zeros_like(kernel)
        for optimum, importance in optima:
            u, f = optimum.astype(float) * mask, importance * mask
            dot, vv, uu = (np.sum(f * a * b) for a, b in ((u, kernel), (kernel, kernel), (u, u)))
            total += 2 * dot * f * (u - dot / vv * kernel) / (vv * uu)
        return self.config.repel / max(1, len(optima)) * total


def close(found, expected):
    return np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.fixture
def experiment(config, data_dir):
    """A function of a dataset and flags: (Config, RunDir, Reference) of a finished run."""

    def make(name, **flags):
        flags = {
            "dataset": str(data_dir / "own" / "1.0.0") if name == "own" else name,
            "model": "tests.networks:linear", "data_dir": str(data_dir), "batch_size": BATCH,
            "epochs": EPOCHS, "shuffle_window": WINDOW, "optimizer": "momentum", "momentum": 0.0,
            "learning_rate": 0.02, "augment": "flip_crop", "jit_compile": "off", "data_seed": 5,
        } | flags  # fmt: skip
        made = config(**flags)
        assert imp.main(made) == 0
        return made, RunDir(made.run_dir), Reference(data_dir, name, made)

    return make


TWO_REPLICAS = {"strategy": "mirrored", "cpu_devices": 2}
WAYS = {
    "resident": ("digits", {"weight_decay": 0.1, "jit_compile": "on"}),
    "streamed": ("own", {"resident": "off"}),
    "cifar10": ("cifar10", {"learning_rate": 0.001}),
    "repelled": ("digits", {"repel": 2.0}),
    "repelled on two replicas": ("own", {"repel": 2.0, **TWO_REPLICAS}),
    "repelled in two parts": ("digits", {"repel": 2.0, "accumulate_steps": 2}),
    "repelled, weighted": ("digits", {"repel": 2.0, "repel_weighting": "saliency"}),
}


LONG = {"repelled on two replicas", "repelled in two parts", "repelled, weighted"}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.ci if way in LONG else ()) for way in WAYS]
)
def test_every_round_is_what_numpy_makes_of_the_raw_pixels(way, experiment):
    name, flags = WAYS[way]
    config, run, reference = experiment(name, **flags)
    optima = []
    for round in range(config.rounds):
        mask, noise = run.masks(round)[KERNEL], Noise(5, round)
        chosen = optima if config.repel else []
        expected, train_loss = reference.trained(run.initial(round), mask, noise, chosen)
        found = run.final(round)
        for path, array in expected.items():
            assert close(found[path], array), (round, path)
        row = run.history(round)[-1]
        assert row["train_loss"] == pytest.approx(train_loss, rel=1e-5)
        images, labels = reference.test
        losses, _ = reference.losses(expected, reference.inputs(images), labels)
        assert row["test_loss"] == pytest.approx(losses.mean(), rel=1e-5)
        weighted = config.repel_weighting == "saliency"
        importance = run.squared_gradients(round)[KERNEL] if weighted else np.ones(mask.shape)
        optima.append((found[KERNEL], importance))


@pytest.mark.ci
@pytest.mark.parametrize("flags", [{}, TWO_REPLICAS, {"resident": "off"}])
def test_saliency_is_the_mean_over_batches_of_the_squared_gradient(flags, experiment):
    flags = {"rounds": 1, "repel": 1.0, "repel_weighting": "saliency"} | flags
    config, run, reference = experiment("digits", **flags)
    images, labels = reference.train  # as they are
    inputs = reference.inputs(images)
    _, errors = reference.losses(run.final(0), inputs, labels)
    order = visit_order(SHARDS, Noise(5, 0), 0, window=WINDOW)[2]
    steps = len(labels) // config.batch_size
    squares = [
        (inputs[batch].T @ errors[batch] / len(batch)) ** 2
        for batch in order[: steps * config.batch_size].reshape(steps, -1)
    ]
    assert close(run.squared_gradients(0)[KERNEL], np.mean(squares, 0))


@pytest.mark.ci
def test_a_copy_differs_in_its_data_seed_alone(experiment):
    _, run, reference = experiment("digits", repel=2.0)
    command = [forked.python(), "-m", "tools.instability", f"--run_dir={run.path}", "--points=2"]
    for start in ("init", "rewind:3"):
        flags = ["--at_rounds=0,2", f"--start={start}"]
        result = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    for round in (0, 2):
        mask = run.masks(round)[KERNEL]
        optima = [(run.final(earlier)[KERNEL], np.ones(mask.shape)) for earlier in range(round)]
        # The state after three steps of round 0, of the run's own data seed; dense.
        rewound, _ = reference.trained(run.initial(0), np.ones(mask.shape), Noise(5, 0), last=3)
        for name, start, first in (("init", run.initial(0), 0), ("rewind_3", rewound, 3)):
            start = start | {KERNEL: start[KERNEL] * mask}
            for seed in (5, 6) if first else (6,):  # the run is the copy of its own seed
                expected, _ = reference.trained(start, mask, Noise(seed, round), optima, first)
                copy = run.path / "copies" / f"round_{round:02d}_{name}_data_seed_{seed}"
                found = parse_npz((copy / "trained" / "final.npz").read_bytes())
                for path, array in expected.items():
                    assert close(found[path], array), (copy.name, path)
