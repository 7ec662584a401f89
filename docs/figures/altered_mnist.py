"""Alter MNIST for two studies: python docs/figures/altered_mnist.py data.

It reads data/mnist, and writes two files of arrays, which it tells how to prepare: of the first
10,000 training images with labels drawn at random, and of Gaussian clones. A clone is drawn from
the normal distribution that has the mean and the covariance of the training images of its class, so
clones and images share these, and nothing of higher order. Test clones have the same distribution.
"""

import pathlib
import sys

import numpy as np
import tensorflow_datasets as tfds

SEED, RANDOM = 0, 10_000


def clones(
    images: np.ndarray, labels: np.ndarray, counts: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return arrays of as many clones of each class as `counts` says, {split: (classes,)}."""
    generator, arrays = np.random.default_rng(SEED), {}
    for split, of_classes in counts.items():
        found = np.empty((sum(of_classes), *images.shape[1:]), np.float32)
        classes = generator.permutation(np.repeat(np.arange(len(of_classes)), of_classes))
        for label in range(len(of_classes)):
            of_class = images[labels == label].reshape(np.sum(labels == label), -1)
            drawn = generator.multivariate_normal(
                of_class.mean(0), np.cov(of_class.T), of_classes[label], method="eigh"
            )
            found[classes == label] = drawn.reshape(-1, *images.shape[1:])
        arrays |= {f"x_{split}": found, f"y_{split}": classes}
    return arrays


def main(data_dir: str) -> None:
    train, test = tfds.as_numpy(
        tfds.load("mnist", split=["train", "test"], data_dir=data_dir, batch_size=-1)
    )
    generator = np.random.default_rng(SEED)
    few = {"train": RANDOM, "test": len(test["label"])}
    random = {}
    for split, of in (("train", train), ("test", test)):
        random[f"x_{split}"] = of["image"][: few[split]]
        random[f"y_{split}"] = generator.integers(0, 10, few[split])
    counts = {"train": np.bincount(train["label"]), "test": np.bincount(test["label"])}
    images = train["image"].astype(np.float64)
    altered = {
        "mnist_random_labels": random,
        "mnist_clones": clones(images, train["label"], counts),
    }
    for name, arrays in altered.items():
        path = pathlib.Path(data_dir, f"{name}.npz")
        np.savez(path, **arrays)
        print(
            f"python -m tools.prepare_data --source=arrays --raw_dir={path} --name={name} "
            f"--data_dir={data_dir}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
