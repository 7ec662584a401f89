"""Ways that are measured by turns, and how much of each is worth it."""

import time

from lottery_tf.terminal import console

MOST_STEPS = 1000
PIECE_SECONDS = 2.0  # of one way in one repeat: far above a clock's and a scheduler's noise


def take_turns(ways, *, repeats, what):
    """What each way gives in each repeat, after one repeat that warms up; shows how far it is.

    Args:
        ways: {name: function without arguments}.
        repeats: how often each is measured.
        what: what the user is told is measured.

    Returns:
        {name: [value of each repeat]}.
    """
    found = {name: [] for name in ways}
    with console.progress((repeats + 1) * len(ways), what) as bar:
        for repeat in range(repeats + 1):
            began = time.perf_counter()
            for name, measure in ways.items():
                value = measure()
                if repeat:
                    found[name].append(value)
                bar.update(1)
            left = (repeats - repeat) * (time.perf_counter() - began)
            if repeat == 1 and left > 1:
                console.say(f"{what}: {left:.0f} s to go")
    return found


def steps_for(measure, *, most, seconds=PIECE_SECONDS):
    """How many steps take about so long, at least one.

    Args:
        measure: of a number of steps -> seconds of one of them.
        most: steps, at most.
        seconds: that they are to take.
    """
    measure(1)  # compiles
    return max(1, min(most, int(seconds / measure(min(3, most)))))
