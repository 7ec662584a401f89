"""What the repellent loss costs: time of a step, and bytes held, at the rounds of a run."""

import contextlib
import functools
import time

import numpy as np
import tensorflow as tf

from lottery_tf import datasets, masking, pruning
from lottery_tf.benchmarks.turns import MOST_STEPS, steps_for, take_turns
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion import loss, optima
from lottery_tf.repulsion.loss import to_devices
from lottery_tf.terminal import console
from lottery_tf.training.devices import connect


def step_times(config, *, rounds, repeats, steps=None):
    """Seconds of a step with and without repulsion, under the same masks, taking turns.

    Args:
        config: Config; its repel is the strength.
        rounds: round r has r optima and random masks of density (1 - prune_fraction)^r.
        repeats: how often each is measured, after one warm-up.
        steps: steps per repeat; by default as many as take about half a second.

    Returns:
        {round: {"without": [seconds], …: [seconds] of each of WAYS, "compile": seconds}}.
    """
    directory = datasets.find(config)
    engine = Engine(config, directory, connect(config))
    initialization = engine.initialization
    data, rates = engine.feed.start_epoch(Noise(0, 0), 0, 0), tf.constant(engine.rates)
    most, found = min(steps or MOST_STEPS, engine.steps_per_epoch), {}

    def run(program, held, count):
        began = time.perf_counter()
        program(data, rates, tf.constant(0), tf.constant(count), held)
        engine.trainer.totals.numpy()
        return (time.perf_counter() - began) / count

    for round in rounds:
        masks, held = _problem(config, initialization(0), round)
        weights = pruning.apply_masks(initialization(0), masks)
        masking.set_weights(engine.network, weights, masks)
        engine.trainer.reset_optimizer()
        on_device = to_devices(held, engine.cluster)
        console.say(f"round {round} of {', '.join(map(str, rounds))}: compiling")
        programs, seconds = _compiled(engine, run, on_device)
        ways = {name: functools.partial(run, *program) for name, program in programs.items()}
        count = most if steps else steps_for(ways["without"], most=most, seconds=0.5)
        turns = {name: functools.partial(way, count) for name, way in ways.items()}
        what = f"round {round}, {count} steps at a time, {repeats} times"
        found[round] = take_turns(turns, repeats=repeats, what=what) | {"compile": seconds}
    return found


def _compiled(engine, run, on_device):
    """({way: (program, its optima)}, seconds of compiling the last one)."""
    compiled = {}
    for name, way in WAYS.items():
        with _instead(way):  # while the step is traced
            engine.compile()
            seconds = run(engine.run_steps, on_device, 1)
        compiled[name] = engine.run_steps, on_device
    return {"without": (engine.run_steps, {})} | compiled, seconds


def _stopping_after(part):
    """value_and_gradients that goes as far as a part, and uses what it has for nothing."""

    def value_and_gradients(kernels, optima, *, strength, scope, onto, factor):
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


# What a step does of the repulsion, each with what comes before it; "with" is all of it, the
# scattering onto the gradients included.
WAYS = {
    "gather": _stopping_after("gather"),
    "products": _stopping_after("products"),
    "combination": _stopping_after("combination"),
    "with": loss.value_and_gradients,
}


@contextlib.contextmanager
def _instead(function):
    before = loss.value_and_gradients
    loss.value_and_gradients = function
    try:
        yield
    finally:
        loss.value_and_gradients = before


def held_bytes(config, *, rounds):
    """{round: (bytes of the values, bytes of the index, bytes of the dense prunable weights)}."""
    initialization = Engine(config, datasets.find(config), connect(config)).initialization
    start, found = initialization(0), {}
    for round in range(1, rounds):
        masks, held = _problem(config, start, round)
        found[round] = (*held.bytes(), sum(4 * mask.size for mask in masks.values()))
    return found


def _problem(config, weights, round):
    """Random masks of a round's density, and Optima of as many random networks."""
    generator = np.random.default_rng(round)
    masks = {path: np.ones(weights[path].shape, bool) for path in weights if "kernel" in path}
    for _ in range(round):
        noise = {p: np.float32(generator.standard_normal(m.shape)) * m for p, m in masks.items()}
        masks, _ = pruning.prune(noise, masks, config.prune_fraction)
    sources = (
        (
            f"round {index}",
            {p: np.float32(generator.standard_normal(m.shape)) for p, m in masks.items()},
            None,
        )
        for index in range(round)
    )
    return masks, optima.on_mask(sources, masks, scope=config.repel_scope)
