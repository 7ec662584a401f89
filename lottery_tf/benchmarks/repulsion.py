"""Measure the repellent loss at the rounds of a run: time of a step, and bytes of the optima."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from lottery_tf import datasets, masking, pruning
from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns
from lottery_tf.config import Config
from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion import loss, optima
from lottery_tf.repulsion.loss import to_devices
from lottery_tf.terminal import console
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine


def step_times(
    config: Config, *, rounds: Sequence[int], repeats: int, steps: int | None = None
) -> dict[int, dict[str, Any]]:
    """Return the seconds of a step with and without repulsion, under the same masks, by turns.

    Args:
        config: of the run; its repel is the strength.
        rounds: round r has r optima and random masks of density (1 - prune_fraction)^r.
        steps: steps per repeat; by default as many as take about half a second.

    Returns:
        {round: {"without": [seconds], …: [seconds] of each of WAYS, "compile": seconds}}.
    """
    directory = datasets.find(config)
    engine = Engine(config, directory, connect(config))
    initialization = engine.initialization
    data, rates = engine.feed.start_epoch(Noise(0, 0), 0, 0), tf.constant(engine.rates)
    most = min(steps or MOST_STEPS, engine.steps_per_epoch)
    times: dict[int, dict[str, Any]] = {}

    def run(program: Callable, held: Any, count: int) -> float:
        began = time.perf_counter()
        program(data, rates, tf.constant(0), tf.constant(count), held)
        engine.trainer.totals.numpy()
        return (time.perf_counter() - began) / count

    for round in rounds:
        masks, held = _problem(config, initialization(0), round)
        weights = pruning.apply_masks(initialization(0), masks)
        masking.set_weights(engine.network, weights, masks)
        engine.trainer.reset_optimizer()
        on_device = to_devices(held, engine.cluster.copies)
        console.say(f"round {round} of {', '.join(map(str, rounds))}: compiling")
        programs: dict[str, Callable] = {}
        for name, way in WAYS.items():
            with mock.patch.object(loss, "value_and_gradients", way):  # while the step is traced
                engine.compile()
                compiling = run(engine.run_steps, on_device, 1)
            programs[name] = functools.partial(run, engine.run_steps, on_device)
        ways = {"without": functools.partial(run, engine.run_steps, {})} | programs
        count = most if steps else steps_for(ways["without"], most=most, seconds=0.5)
        turns = {name: functools.partial(way, count) for name, way in ways.items()}
        what = f"round {round}, {count} steps at a time, {repeats} times"
        times[round] = {**take_turns(turns, repeats=repeats, what=what), "compile": compiling}
    return times


def _stopping_after(part: str) -> Callable:
    """Return a value_and_gradients that stops after a part, and adds zero times its result."""

    def value_and_gradients(
        kernels: Any, optima: Any, *, strength: Any, scope: Any, onto: Any, factor: Any
    ) -> tuple[Any, dict[str, Any]]:
        alive = loss.gather(kernels, optima)
        used = list(alive.values())
        if part != "gather":
            dots, squares = loss.products(alive, optima, scope=scope)
            used = [*dots.values(), *squares.values()]
        if part == "combination":
            options = {"strength": strength, "scope": scope}
            _, compacted = loss.combine(alive, optima, dots, squares, **options)
            used = list(compacted.values())
        nothing = 0.0 * tf.add_n([tf.reduce_sum(values) for values in used])
        return nothing, {path: onto[path] + nothing for path in optima}

    return value_and_gradients


# The parts of the repulsion in a step, each with those before it. "with" is all of it, including
# the scattering onto the gradients.
WAYS = {
    "gather": _stopping_after("gather"),
    "products": _stopping_after("products"),
    "combination": _stopping_after("combination"),
    "with": loss.value_and_gradients,
}


def held_bytes(config: Config, *, rounds: int) -> dict[int, tuple[int, int, int]]:
    """Return {round: (bytes of the values, of the index, of the dense prunable weights)}."""
    start = Engine(config, datasets.find(config), connect(config)).initialization(0)
    sizes: dict[int, tuple[int, int, int]] = {}
    for round in range(1, rounds):
        masks, held = _problem(config, start, round)
        sizes[round] = (*held.bytes(), sum(4 * mask.size for mask in masks.values()))
    return sizes


def _problem(config: Config, weights: Weights, round: int) -> tuple[Masks, Any]:
    """Return random masks of a round's density, and Optima of as many random networks."""
    generator = np.random.default_rng(round)
    masks = {path: np.ones(weights[path].shape, bool) for path in weights if "kernel" in path}

    def noise() -> Weights:
        return {p: generator.standard_normal(m.shape).astype("f4") for p, m in masks.items()}

    for _ in range(round):
        masks, _ = pruning.prune(pruning.apply_masks(noise(), masks), masks, config.prune_fraction)
    sources = ((f"round {index}", noise(), None) for index in range(round))
    return masks, optima.on_mask(sources, masks, scope=config.repel_scope)
