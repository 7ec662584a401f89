"""Compare the engine's step with plain Keras and with its matrix products alone."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import datasets, imp, masking, models
from lottery_tf.benchmarks import peers
from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns
from lottery_tf.config import Config
from lottery_tf.datasets import PreparedDataset, tfrecords
from lottery_tf.datasets.statistics import channel_statistics, scaled
from lottery_tf.loop.pruning_rounds import PruningRounds
from lottery_tf.loop.store import RoundStore
from lottery_tf.plots.summaries import Summaries
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.pruning.streams import Noise
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console
from lottery_tf.training import optimizers
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine, Evaluator, TrainingState
from lottery_tf.training.training import Training


def step_times(config: Config, *, repeats: int, steps: int | None = None) -> dict[str, list[float]]:
    """Return the seconds of one training step of each way, measured in one process by turns.

    Returns:
        {way: [seconds per step of each repeat]}: "engine"; "keras fit" of the same masked network
        on data that are normalised beforehand; "matrix products", the step's own alone, by NumPy's
        BLAS; "at peak rate", what those would take at the rate of one of 2048 x 2048 by 2048;
        and JAX and PyTorch, where they are installed.
    """
    directory = datasets.find(config)
    once = dataclasses.replace(config, epochs=1, schedule="constant", warmup_epochs=0.0)
    engine = Engine(once, directory, connect(once))
    initialization = engine.initialization
    console.say("compiling")
    trained = functools.partial(_engine, engine, initialization(0), engine.dense_masks())
    most = min(steps or MOST_STEPS, engine.steps)
    steps = most if steps else steps_for(trained, most=most)
    shapes, large = product_shapes(engine.network, config.batch_size), (2048, 2048, 2048)
    part_of_large = sum(math.prod(shape) for shape in shapes) / math.prod(large)
    products = functools.partial(_products, tuple(shapes))
    ways: dict[str, Callable[[], float]] = {
        "engine": lambda: trained(steps),
        "keras fit": keras_fit(config, directory, steps),
        "matrix products": functools.partial(products, steps_for(products, most=100, seconds=0.5)),
        "at peak rate": lambda: part_of_large * _products((large,), 1),
    }
    ways |= peers.ways(config, *_normalised(config, directory, steps), steps)
    what = f"{steps} steps at a time, {repeats} times"
    console.say(f"measuring {', '.join(ways)}: {what}")
    return take_turns(ways, repeats=repeats, what=what)


def product_shapes(network: keras.Model, batch_size: int) -> list[tuple[int, int, int]]:
    """Return (m, k, n) of each matrix product of a step: of kernels forward, to weights, to inputs.

    A convolution counts as the product of its patches with its kernel; the first layer needs no
    gradient of its input.
    """
    shapes: list[tuple[int, int, int]] = []
    for kernel in masking.kernels(network).values():
        *window, outputs = kernel.mask.shape
        rows = batch_size * int(np.prod(kernel.layer.output.shape[1:-1]))
        inputs = int(np.prod(window))
        shapes += [(rows, inputs, outputs), (inputs, rows, outputs)]
        if len(shapes) > 2:
            shapes.append((rows, outputs, inputs))
    return shapes


def keras_fit(config: Config, directory: PreparedDataset, steps: int) -> Callable[[], float]:
    """Return a function that runs Keras's `fit` of the same network, with Keras's own BatchNorm."""
    own = "lottery_tf.models.layers.FusedBatchNormalization"
    with mock.patch(own, keras.layers.BatchNormalization):
        network = models.build(config, directory.input_shape, directory.classes, seed=0)
    network.compile(
        optimizers.make(config),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = _normalised(config, directory, steps)

    def measure() -> float:
        began = time.perf_counter()
        network.fit(images, labels, batch_size=config.batch_size, verbose=0)
        return (time.perf_counter() - began) / steps

    return measure


def _normalised(config: Config, directory: PreparedDataset, steps: int) -> tuple[Array, Array]:
    """Return the images and labels of some steps, as `fit` takes them."""
    images, labels = tfrecords.read(directory, "train")
    mean, std = channel_statistics(config, directory)
    used = steps * config.batch_size
    return (scaled(images[:used]) - mean) / std, labels[:used]


def seconds_of_rounds(config: Config, step_seconds: float) -> float:
    """Estimate the seconds of the two rounds of `round_parts`, without compilation."""
    splits = datasets.find(config).splits
    train, test = (splits[name].examples / config.batch_size for name in ("train", "test"))
    return 2 * config.epochs * (train + test / 2) * step_seconds  # half: no backward pass


def round_parts(config: Config) -> dict[str, float]:
    """Run two rounds as the command does; return the seconds of their parts.

    Returns:
        {"training": seconds of the steps, "evaluation": …, "rest": what no other part is}.
    """
    with tempfile.TemporaryDirectory() as aside:
        config = dataclasses.replace(config, rounds=2, run_dir=str(pathlib.Path(aside) / "run"))
        engine = Engine(config, datasets.find(config), connect(config))
        initialization = engine.initialization
        # Compiling is paid once per run, so it is no part of a round.
        engine.train(Training(initialization(0), engine.dense_masks(), Noise(0, 0), last=1))
        engine.evaluate()
        run = RunDir(config.run_dir)
        with run.open(config), contextlib.ExitStack() as stack:
            parts = {"training": 0.0} | dict.fromkeys(_PARTS, 0.0)
            for part, methods in _PARTS.items():
                for holder, name in methods:
                    stack.enter_context(_timed(parts, part, holder, name))
            began = time.perf_counter()
            imp.experiment(config, run, engine)
            whole = time.perf_counter() - began
        parts["training"] = sum(row["train_seconds"] for row in run.metrics())
        return parts | {"rest": whole - sum(parts.values())}


# {part of a round that is not training: the methods in which its time goes}
_PARTS: dict[str, list[tuple[Any, str]]] = {
    "evaluation": [(Evaluator, "evaluate")],
    "reset": [(PruningRounds, "_reset"), (TrainingState, "start")],
    "pruning": [(PruningRounds, "prune")],
    "saving": [(RoundStore, "save_round"), (RoundStore, "save_rewind_point")],
    "TensorBoard": [(Summaries, name) for name in ("start_round", "add_epoch", "finish_round")],
}


@contextlib.contextmanager
def _timed(parts: dict[str, float], part: str, holder: Any, name: str) -> Iterator[None]:
    """Add the seconds of a method's calls to a part while the context lasts."""
    method = getattr(holder, name)

    def measured(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*args, **options)
        finally:
            parts[part] += time.perf_counter() - began

    with mock.patch.object(holder, name, measured):
        yield


def _engine(engine: Engine, weights: Weights, masks: Masks, steps: int) -> float:
    """Run the compiled program as one piece; return the seconds of a step."""
    masking.set_weights(engine.network, weights, masks)
    engine.trainer.reset_optimizer()
    data, rates = engine.feed.start_epoch(Noise(0, 0), 0, 0), tf.constant(engine.rates)
    began = time.perf_counter()
    engine.run_steps(data, rates, tf.constant(0), tf.constant(steps), {})
    engine.trainer.totals.numpy()
    return (time.perf_counter() - began) / steps


@functools.cache
def _matrices(shapes: tuple[tuple[int, int, int], ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0).standard_normal
    return [(draw((m, k), np.float32), draw((k, n), np.float32)) for m, k, n in shapes]


def _products(shapes: tuple[tuple[int, int, int], ...], times: int) -> float:
    """Return the seconds of the products of some shapes (m, k, n), the mean over some times."""
    matrices = _matrices(shapes)
    began = time.perf_counter()
    for _ in range(times):
        for left, right in matrices:
            left @ right
    return (time.perf_counter() - began) / times
