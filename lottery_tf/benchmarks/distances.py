"""Compare the time of all distances between the rounds of a large network with reading alone."""

import concurrent.futures
import itertools
import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Sequence

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


def distance_times(*, rounds: int, repeats: int) -> tuple[dict[str, list[float]], int]:
    """Return the seconds of reading and of measuring, by turns, and the memory of measuring.

    Args:
        rounds: of random weights under random masks of density 0.8^r, written first.

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

        def in_new_process() -> tuple[float, int]:
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                return pool.submit(_measure, networks).result()

        ways = {"distances": in_new_process, "reading alone": lambda: (_read(networks), 0)}
        measured = take_turns(ways, repeats=repeats, what=f"distances, {repeats} times")
    times = {way: [seconds for seconds, _ in values] for way, values in measured.items()}
    return times, max(peak for _, peak in measured["distances"])


def _write(network: FinishedRound) -> None:
    # The same draws in each round: its masks lie in those of the round before, as a run's do.
    draws, density = np.random.default_rng(0), 0.8**network.round
    masks = {p: draws.random(shape, np.float32) < density for p, shape in SHAPES.items()}
    generator = np.random.default_rng([1, network.round])
    contents = {"masks.npz": files.format_npz(masks)}
    for name in ("initial.npz", "final.npz"):
        weights = {p: generator.standard_normal(m.shape, np.float32) * m for p, m in masks.items()}
        contents[name] = files.format_npz(weights)
    files.write_directory(network.path, contents)


def _read(networks: Sequence[FinishedRound]) -> float:
    """Read every file; return the seconds."""
    began = time.perf_counter()
    for network, which in itertools.product(networks, ("masks", "initial", "final")):
        with open(network.file(which), "rb") as file:
            while file.read(1 << 20):
                pass
    return time.perf_counter() - began


def _measure(networks: Sequence[FinishedRound]) -> tuple[float, int]:
    """Check and measure rounds; return the seconds and the peak bytes of this process."""
    began = time.perf_counter()
    check_files(networks)
    products_of_rounds(networks, networks)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
