"""Keeps what was computed, so that it is not computed again."""

import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lottery_tf.runs import files
from lottery_tf.runs.rounds import FinishedRound, check_files

Fits = Callable[[Any], bool]  # of anything that JSON held


class NotKnown(Exception):
    """Tells that a result was not computed before."""


class Cache:
    """Keeps results by a digest of the rounds and options that they came from, in a JSON file.

    Nothing is computed twice while these are unchanged, and a growing run adds only its new rounds.
    Without a path it is kept in memory alone. If `only_known`, `reuse` raises NotKnown where it
    would compute.
    """

    def __init__(self, path: pathlib.Path | None = None, *, only_known: bool = False):
        self.path, self.only_known = path, only_known
        self.known = self._read()

    def _read(self) -> dict[str, Any]:
        """Return what the file holds: nothing if it is missing or damaged."""
        try:
            known = json.loads(self.path.read_text("utf-8")) if self.path else {}
        except (OSError, ValueError, RecursionError):
            known = {}
        return known if isinstance(known, dict) else {}

    def reuse(
        self,
        rounds: Sequence[FinishedRound],
        options: Any,
        compute: Callable[..., Any],
        *arguments: Any,
        fits: Fits = lambda value: True,
    ) -> Any:
        """Return compute(*arguments), once the rounds' files are checked, or what it gave before.

        Args:
            rounds: what it is computed from.
            options: what it depends on besides, for json, as is what `compute` gives.
            compute, *arguments: the function, and what it takes.
            fits: whether what was kept is of the kind that compute gives; else it computes anew.
        """
        key = _digest(rounds, options)
        if key not in self.known or not fits(self.known[key]):
            if self.only_known:
                raise NotKnown
            check_files(rounds)
            self.known[key] = compute(*arguments)
            self.save()
        return self.known[key]

    def find(self, options: Any, fits: Fits) -> Any:
        """Return what was kept for these options; None if nothing was, or if it does not fit."""
        value = self.known.get(_digest((), options))
        return value if fits(value) else None

    def keep(self, options: Any, value: Any) -> None:
        """Keep a value for `find`; `save` writes it."""
        self.known[_digest((), options)] = value

    def save(self) -> None:
        """Write what is kept, beside what other processes have written since it was read."""
        if self.path:
            with files.hold(self.path.parent):
                files.remove_leftovers(self.path.parent, held=False)
                self.known = self._read() | self.known
                files.write_text(self.path, json.dumps(self.known))


def rows_of(*columns: str, count: int | None = None, **words: Sequence[str]) -> Fits:
    """Return a check whether a value is so many rows, with numbers in some columns.

    Further columns, {name: the words of each row}, say how many rows there are. Without these and
    a count, any number fits.
    """
    expected = len(next(iter(words.values()))) if count is None and words else count

    def fits(value: Any) -> bool:
        return (
            isinstance(value, list)
            and expected in (None, len(value))
            and all(isinstance(row, dict) for row in value)
            and all(is_number(row.get(name)) for row in value for name in columns)
            and all([row.get(name) for row in value] == [*some] for name, some in words.items())
        )

    return fits


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number that a float can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)


def _digest(rounds: Sequence[FinishedRound], options: Any) -> str:
    """Return a hexadecimal digest of the rounds' checksums and the options."""
    sums = [finished_round.fingerprint() for finished_round in rounds]
    return hashlib.sha256(json.dumps([sums, options]).encode()).hexdigest()
