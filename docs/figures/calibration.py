"""Prune a byte-level transformer without training: python docs/figures/calibration.py.

It trains a small transformer on the topics of Python's `pydoc`, three times, prunes each to a half,
and to 2:4, by magnitude, Wanda and SparseGPT, and writes calibration.csv: the mean loss of a byte
on text that was not trained on, in nats. Some minutes on two CPU cores.
"""

import csv
import itertools
import pathlib
from collections.abc import Iterator
from pydoc_data import topics

import keras
import numpy as np

import lottery_tf

SEEDS, DENSITY = (0, 1, 2), 0.5
LENGTH, WIDTH, HEADS, BLOCKS = 64, 64, 4, 2
STEPS, BATCH, CALIBRATION = 1000, 32, 128
DENSE = ("bytes", "places", "head")  # as the papers leave the embeddings and the last layer
METHODS = ("magnitude", "wanda", "sparsegpt")

layers = keras.layers


def transformer() -> keras.Model:
    """Return an untrained decoder: bytes (LENGTH,) to the logits of the next ones."""
    bytes_of = keras.Input((LENGTH,), dtype="int32")
    places = keras.ops.zeros_like(bytes_of) + keras.ops.arange(LENGTH)
    hidden = layers.Embedding(256, WIDTH, name="bytes")(bytes_of)
    hidden = hidden + layers.Embedding(LENGTH, WIDTH, name="places")(places)
    for _ in range(BLOCKS):
        normed = layers.LayerNormalization()(hidden)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        hidden = hidden + attention(normed, normed, use_causal_mask=True)
        normed = layers.Dense(4 * WIDTH, "gelu")(layers.LayerNormalization()(hidden))
        hidden = hidden + layers.Dense(WIDTH)(normed)
    return keras.Model(
        bytes_of, layers.Dense(256, name="head")(layers.LayerNormalization()(hidden))
    )


def windows(text: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes (starts, LENGTH) and the ones that follow each."""
    found = text[starts[:, np.newaxis] + np.arange(LENGTH + 1)]
    return found[:, :-1], found[:, 1:]


def rows() -> Iterator[dict[str, object]]:
    """Yield a row for each seed and method."""
    text = "\n".join(topics.topics[key] for key in sorted(topics.topics)).encode()
    numbers = np.frombuffer(text, np.uint8).astype(np.int32)
    train, test = np.split(numbers, [len(numbers) * 9 // 10])
    held_out = windows(test, np.arange(0, len(test) - LENGTH - 1, LENGTH))
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        generator = np.random.default_rng(seed)
        model = transformer()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        schedule = keras.optimizers.schedules.CosineDecay(3e-3, STEPS)
        model.compile(keras.optimizers.AdamW(schedule), loss)
        starts = generator.integers(0, len(train) - LENGTH - 1, STEPS * BATCH)
        model.fit(*windows(train, starts), batch_size=BATCH, verbose=0)
        sample, _ = windows(train, generator.integers(0, len(train) - LENGTH - 1, CALIBRATION))
        dense = model.evaluate(*held_out, verbose=0)
        yield {"seed": seed, "method": "dense", "density": 1.0, "loss": dense}
        for method, pattern in itertools.product(METHODS, ("", "2:4")):
            pruned = lottery_tf.masked(model, exclude=list(DENSE))
            options = {} if method == "magnitude" else {"data": sample}
            if pattern:
                options["structure"] = pattern
            elif method == "magnitude":
                options["scope"] = "layer"
            density = lottery_tf.prune(pruned, density=DENSITY, criterion=method, **options)
            pruned.compile(loss=loss)
            found = pruned.evaluate(*held_out, verbose=0)
            name = f"{method} {pattern}".strip()
            yield {"seed": seed, "method": name, "density": density, "loss": found}


def main() -> None:
    with pathlib.Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["seed", "method", "density", "loss"], lineterminator="\n")
        writer.writeheader()
        for row in rows():
            writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
