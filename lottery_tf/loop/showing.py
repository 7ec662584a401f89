"""What `rounds` prints."""

import math

from lottery_tf.plots import Row
from lottery_tf.terminal import console

COLUMNS: console.Columns = {
    "round": console.COLUMNS["round"],
    "density": console.COLUMNS["density"],
    "train_loss": ("train loss", 10, "{:.4f}"),
    "train_accuracy": console.COLUMNS["train_accuracy"],
    "test_loss": ("val loss", 9, "{:.4f}"),
    "test_accuracy": ("val acc", 9, "{:.2%}"),
    "threshold": console.COLUMNS["threshold"],
    "seconds": console.COLUMNS["seconds"],
}


class Table:
    """Prints a row for each finished round, as the command does.

    Args:
        verbose: 0 prints nothing.
    """

    def __init__(self, verbose: int):
        self.verbose = verbose
        self._columns: console.Columns = {}

    def say(self, line: str) -> None:
        """Print a line."""
        if self.verbose:
            console.print_line(line)

    def add(self, row: Row) -> None:
        """Print a row, below the titles of the columns that the first row has a value of."""
        if not self.verbose:
            return
        if not self._columns:
            known = {name for name in COLUMNS if not math.isnan(row[name])}
            self._columns = {name: COLUMNS[name] for name in COLUMNS if name in known}
            console.print_header(self._columns)
        console.print_row(row, self._columns)
