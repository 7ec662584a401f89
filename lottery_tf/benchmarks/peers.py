"""Measure the same training step in JAX and PyTorch, where they are installed.

Their networks are dense and without masks, their images are normalised beforehand, and nothing is
augmented: less work than the engine's.
"""

import importlib
import importlib.util
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lottery_tf.config import Config
from lottery_tf.pruning import Array

WIDTHS = (16, 32, 64)  # of the stages of a ResNet for CIFAR
DEPTHS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
Way = Callable[[], float]  # that returns the seconds of one step


def load() -> None:
    """Import JAX and PyTorch, where installed, before TensorFlow: PyTorch crashes after it."""
    for name in ("torch", "triton", "jax"):  # PyTorch imports triton late
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def ways(config: Config, images: Array, labels: Array, steps: int) -> dict[str, Way]:
    """Return {name: function that trains for some steps, and returns the seconds of each}.

    Args:
        config: of the network; {} of others than LeNet-300-100 and the ResNets for CIFAR.
        images: float32 (examples, h, w, c), at least `steps` batches of them.
        labels: int32 (examples,).
        steps: of each measurement.
    """
    found: dict[str, Way] = {}
    batches = np.arange(steps * config.batch_size).reshape(steps, config.batch_size)
    if config.model == "lenet" and config.optimizer == "adam" and "jax" in sys.modules:
        found["jax scan"] = _jax(config, images, labels, batches)
    layouts = {"pytorch": False} if config.model == "lenet" else {}
    if config.model in DEPTHS:
        layouts = {"pytorch nchw": False, "pytorch nhwc": True}
    if "torch" in sys.modules:
        for name, channels_last in layouts.items():
            found[name] = _torch(config, images, labels, batches, channels_last=channels_last)
    return found


def _sizes(images: Array, labels: Array) -> list[int]:
    """Return the widths of LeNet-300-100, its inputs and classes included."""
    return [int(np.prod(images.shape[1:])), 300, 100, int(labels.max()) + 1]


def _jax(config: Config, images: Array, labels: Array, batches: Array) -> Way:
    """Return LeNet with Adam as one `lax.scan` over the steps."""
    import jax
    import jax.numpy as jnp

    sizes, generator = _sizes(images, labels), np.random.default_rng(0)
    start: Any = [
        (jnp.asarray(generator.normal(0, n**-0.5, (n, m)), jnp.float32), jnp.zeros(m))
        for n, m in itertools.pairwise(sizes)
    ]
    pixels, classes = jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels)

    def loss(weights: Any, inputs: Any, targets: Any) -> Any:
        *hidden, (kernel, bias) = weights
        for inner, offset in hidden:
            inputs = jax.nn.relu(inputs @ inner + offset)
        logs = jax.nn.log_softmax(inputs @ kernel + bias)
        return -jnp.mean(jnp.take_along_axis(logs, targets[:, None], 1))

    def step(state: Any, places: Any) -> tuple[Any, None]:
        weights, means, squares, count = state
        gradients = jax.grad(loss)(weights, pixels[places], classes[places])
        count = count + 1
        rate = config.learning_rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        means = jax.tree.map(lambda m, g: m + (g - m) * 0.1, means, gradients)
        squares = jax.tree.map(lambda v, g: v + (g * g - v) * 0.001, squares, gradients)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), weights, means, squares
        )
        return (weights, means, squares, count), None

    run = jax.jit(lambda state, places: jax.lax.scan(step, state, places)[0])
    zeros = jax.tree.map(jnp.zeros_like, start)
    state, places = (start, zeros, zeros, jnp.float32(0)), jnp.asarray(batches)

    def measure() -> float:
        began = time.perf_counter()
        jax.block_until_ready(run(state, places))
        return (time.perf_counter() - began) / len(batches)

    measure()  # compiles
    return measure


def _torch(
    config: Config, images: Array, labels: Array, batches: Array, *, channels_last: bool
) -> Way:
    """Return the network with a fused optimizer, one batch after the other."""
    import torch

    network: Any
    if config.model == "lenet":
        sizes = _sizes(images, labels)
        layers: list[Any] = [torch.nn.Flatten()]
        for n, m in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
        network = torch.nn.Sequential(*layers[:-1])
    else:
        network = _torch_resnet(DEPTHS[config.model], int(labels.max()) + 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    options: Any = {"lr": config.learning_rate, "fused": True}
    if config.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(network.parameters(), **options)
    else:
        optimizer = torch.optim.SGD(network.parameters(), momentum=config.momentum, **options)
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    pixels = pixels.to(memory_format=layout)
    classes, cross_entropy = torch.from_numpy(labels.astype(np.int64)), torch.nn.CrossEntropyLoss()
    places = torch.from_numpy(batches)

    def measure() -> float:
        began = time.perf_counter()
        for batch in places:
            optimizer.zero_grad()
            cross_entropy(network(pixels[batch]), classes[batch]).backward()
            optimizer.step()
        return (time.perf_counter() - began) / len(batches)

    return measure


def _torch_resnet(depth: int, classes: int) -> Any:
    """Return a ResNet of He et al. 2016 for CIFAR with shortcuts of option A."""
    import torch
    from torch import nn

    def convolution(inputs: int, outputs: int, stride: int) -> list[Any]:
        kernel = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [kernel, nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.stride, self.added = stride, outputs - inputs
            first, second = convolution(inputs, outputs, stride), convolution(outputs, outputs, 1)
            self.inner = nn.Sequential(*first, nn.ReLU(), *second)

        def forward(self, features: Any) -> Any:
            around = features[:, :, :: self.stride, :: self.stride]
            around = nn.functional.pad(around, (0, 0, 0, 0, 0, self.added))
            return torch.relu(self.inner(features) + around)

    layers, inputs = [*convolution(3, WIDTHS[0], 1), nn.ReLU()], WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for block in range((depth - 2) // 6):
            layers.append(Block(inputs, width, 2 if stage and not block else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
