"""What the user sees of a run: a progress bar per round, a row after it, and a clean stop."""

import contextlib
import shlex
import signal
import sys
import time

from tqdm import tqdm

# column of metrics.csv: (title, width, format)
COLUMNS = {
    "round": ("round", 5, "{:d}"),
    "density": ("density", 9, "{:.2%}"),
    "train_accuracy": ("train acc", 10, "{:.2%}"),
    "test_accuracy": ("test acc", 9, "{:.2%}"),
    "threshold": ("threshold", 10, "{:.5f}"),
    "seconds": ("seconds", 8, "{:.1f}"),
}


PREEMPTED = 75  # exit status after SIGTERM: a checkpoint is saved, launch again


class Interrupted(Exception):
    """SIGINT or SIGTERM came; `signal` is its number, `status` the exit status."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.signal = number
        self.status = PREEMPTED if number == signal.SIGTERM else 128 + number

    def advise(self):
        """Tells the user how to go on."""
        module = getattr(sys.modules["__main__"], "__spec__", None)
        name = module.name if module else sys.argv[0]
        again = shlex.join(["python", "-m", name, *sys.argv[1:]])
        print(f"Stopped by {self}. To resume: {again}", file=sys.stderr)


@contextlib.contextmanager
def stop_signals():
    """Yields a function that gives the number of the first SIGINT or SIGTERM that came, or 0.

    A second signal acts as if there were no handler.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}

    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resumable(function):
    """Calls function(received), received as of stop_signals; returns the exit status.

    If a signal stops it, the user is told how to go on.
    """
    with stop_signals() as received:
        try:
            function(received)
        except Interrupted as interrupted:
            interrupted.advise()
            return interrupted.status
    return 0


def progress(items, what):
    """A progress bar over items, or over a number of steps; none in a log file."""
    steps = {"total": items} if isinstance(items, int) else {"iterable": items}
    return tqdm(**steps, desc=what, leave=False, dynamic_ncols=True, disable=None)


def say(line):
    """A line for the user, beside the progress bar."""
    tqdm.write(line, file=sys.stderr)


def print_header():
    """The titles of the rows."""
    tqdm.write("  ".join(f"{title:>{width}}" for title, width, _ in COLUMNS.values()))


def print_row(metrics):
    """A finished round."""
    cells = [f"{form.format(metrics[name]):>{w}}" for name, (_, w, form) in COLUMNS.items()]
    tqdm.write("  ".join(cells))


class Progress:
    """The progress bar of one round, with the time left for the whole run.

    Args:
        round, rounds: this round, and how many there are.
        steps: training steps of one round.
    """

    def __init__(self, round, rounds, steps):
        self.name = f"round {round} of {rounds - 1}"
        self.steps_to_run_end = (rounds - round) * steps
        self.first = None  # (step, time) of the first update: what came before it compiled
        self.done = 0
        self.bar = tqdm(
            total=steps,
            desc=self.name,
            leave=False,
            dynamic_ncols=True,
            disable=None,  # no bar in a log file
            bar_format="{desc}: {percentage:3.0f}%|{bar}|",
        )

    def update(self, step, steps_per_epoch, loss, accuracy):
        """Shows that `step` steps are done, with the running training loss and accuracy."""
        now, left = time.perf_counter(), "?"
        self.first = self.first or (step, now)
        if step > self.first[0]:
            pace = (now - self.first[1]) / (step - self.first[0])
            left = tqdm.format_interval((self.steps_to_run_end - step) * pace)
        self.bar.set_description_str(
            f"{self.name}, epoch {-(-step // steps_per_epoch)}, loss {loss:.4f}, "
            f"accuracy {accuracy:.2%}, run ends in {left}",
            refresh=False,
        )
        self.bar.update(step - self.done)
        self.done = step

    def close(self):
        """Removes the bar."""
        self.bar.close()
