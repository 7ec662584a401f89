"""Measure several ways to do a thing, by turns, each for as long as is worth it.

In all benchmarks `repeats` is how often each way is measured, after one repeat that warms up, and
`steps` the steps of a repeat; by default as many as take about two seconds.
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from lottery_tf.terminal import console

Value = TypeVar("Value")

MOST_STEPS = 1000
PIECE_SECONDS = 2.0  # of one way in one repeat: far above a clock's and a scheduler's noise


def take_turns(
    ways: Mapping[str, Callable[[], Value]], *, repeats: int, what: str
) -> dict[str, list[Value]]:
    """Return the value of each way in each repeat, after one repeat that warms up; show progress.

    `what` names the measurement for the user.
    """
    values: dict[str, list[Value]] = {name: [] for name in ways}
    with console.progress((repeats + 1) * len(ways), what) as bar:
        for repeat in range(repeats + 1):
            began = time.perf_counter()
            for name, measure in ways.items():
                value = measure()
                if repeat:
                    values[name].append(value)
                bar.update(1)
            left = (repeats - repeat) * (time.perf_counter() - began)
            if repeat == 1 and left > 1:
                console.say(f"{what}: {left:.0f} s to go")
    return values


def steps_for(measure: Callable[[int], float], *, most: int, seconds: float = PIECE_SECONDS) -> int:
    """Return how many steps take about this time, at least one.

    Args:
        measure: takes a number of steps, runs them, and returns the seconds of one of them.
        most: the largest number of steps.
        seconds: the time that they should take.
    """
    measure(1)  # compiles
    return max(1, min(most, int(seconds / measure(min(3, most)))))
