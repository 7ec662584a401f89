"""What the user sees of a run: a progress bar per round, a row after it, and a clean stop."""

import contextlib
import signal
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


class Interrupted(Exception):
    """SIGINT or SIGTERM came; `signal` is its number."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextlib.contextmanager
def stop_signals():
    """Yields a function that raises Interrupted once Ctrl-C or SIGTERM has come.

    A second signal acts as if there were no handler.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}

    def check():
        if received:
            raise Interrupted(received[0])

    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        self.steps_to_run_end = (rounds - round) * steps
        self.began, self.done = time.perf_counter(), 0
        self.bar = tqdm(
            total=steps,
            desc=f"round {round} of {rounds - 1}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=None,  # no bar in a log file
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}",
        )

    def update(self, step, steps_per_epoch, loss, accuracy):
        """Shows that `step` steps are done, with the running training loss and accuracy."""
        self.bar.update(step - self.done)
        self.done = step
        pace = (time.perf_counter() - self.began) / step
        left = tqdm.format_interval((self.steps_to_run_end - step) * pace)
        epoch = -(-step // steps_per_epoch)
        self.bar.set_postfix_str(
            f"epoch {epoch}, loss {loss:.4f}, accuracy {accuracy:.2%}, run ends in {left}"
        )

    def close(self):
        """Removes the bar."""
        self.bar.close()
