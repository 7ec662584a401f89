"""What all distances between the rounds of a large network cost beside reading its files."""

import concurrent.futures
import multiprocessing
import pathlib
import resource
import tempfile
import time

import numpy as np

from lottery_tf.analysis.distances import products_of_rounds
from lottery_tf.benchmarks.turns import take_turns
from lottery_tf.runs import files
from lottery_tf.runs.rounds import FinishedRound, check_files
from lottery_tf.terminal import console

# As many weights as ResNet-50's kernels have, in kernels as large as its largest.
SHAPES: dict[str, tuple[int, ...]] = {
    f"layer{index}/kernel": (3, 3, 512, 512) for index in range(10)
}
SHAPES |= {"logits/kernel": (2048, 930)}


def distance_times(*, rounds, repeats):
    """Seconds of reading and of measuring, taking turns, and the memory of measuring.

    Args:
        rounds: of random weights under random masks of density 0.8^r, written first.
        repeats: how often each is measured, after one warm-up.

    Returns:
        ({"distances": [seconds], "reading alone": [seconds]}, peak bytes of a process that
        measures and does nothing else).
    """
    with tempfile.TemporaryDirectory() as directory:
        networks = [FinishedRound(pathlib.Path(directory), round) for round in range(rounds)]
        size = sum(9 * int(np.prod(shape)) for shape in SHAPES.values()) * rounds
        console.say(f"writing {size / 1e9:.1f} GB of random rounds into {directory}")
        for network in console.progress(networks, "writing"):
            _write(network)
        ways = {
            "distances": lambda: _in_new_process(networks),
            "reading alone": lambda: _read(networks),
        }
        found = take_turns(ways, repeats=repeats, what=f"distances, {repeats} times")
    times = {"distances": [seconds for seconds, _ in found["distances"]]}
    peak = max(peak for _, peak in found["distances"])
    return times | {"reading alone": found["reading alone"]}, peak


def _write(network):
    generator = np.random.default_rng(network.round)
    masks = {p: generator.random(s, np.float32) < 0.8**network.round for p, s in SHAPES.items()}
    arrays = {"masks.npz": masks}
    for name in ("initial.npz", "final.npz"):
        arrays[name] = {
            path: generator.standard_normal(shape, np.float32) * masks[path]
            for path, shape in SHAPES.items()
        }
    contents = {name: files.format_npz(parts) for name, parts in arrays.items()}
    files.write_directory(network.path, contents)


def _read(networks):
    """Seconds of reading every file."""
    began = time.perf_counter()
    for network in networks:
        for which in ("masks", "initial", "final"):
            with open(network.file(which), "rb") as file:
                while file.read(1 << 20):
                    pass
    return time.perf_counter() - began


def _in_new_process(networks):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_measure, networks).result()


def _measure(networks):
    """(Seconds of checking and measuring, peak bytes of this process)."""
    began = time.perf_counter()
    check_files(networks)
    products_of_rounds(networks, networks)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
