"""What need not be computed again."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from lottery_tf.store import files
from lottery_tf.store.rounds import FinishedRound, check_files


class Cache:
    """Results by a digest of the rounds and options that they came from.

    Nothing is computed twice while these are unchanged, and a growing run adds only its new rounds.

    Args:
        path: the JSON file that keeps it; by default it is kept in memory alone.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self.path = path
        try:
            self.known: dict[str, Any] = json.loads(path.read_text()) if path else {}
        except (OSError, ValueError):  # none yet, or damaged: it is computed again
            self.known = {}

    def reuse(self, rounds: Sequence[FinishedRound], options: Any,
              compute: Callable[..., Any], *arguments: Any) -> Any:  # fmt: skip
        """compute(*arguments), once the rounds' files are checked, or what it gave before.

        Args:
            rounds: what it is computed from.
            options: what it depends on besides, for json.
            compute: gives anything that json holds.
            *arguments: of it.
        """
        key = _digest(rounds, options)
        if key not in self.known:
            check_files(rounds)
            self.known[key] = compute(*arguments)
            self.save()
        return self.known[key]

    def find(self, options: Any) -> Any:
        """What was kept for these options; None without."""
        return self.known.get(_digest((), options))

    def keep(self, options: Any, value: Any) -> None:
        """Keeps a value for `find`; `save` writes it."""
        self.known[_digest((), options)] = value

    def save(self) -> None:
        """Writes what is kept."""
        if self.path:
            files.write_text(self.path, json.dumps(self.known))


def _digest(rounds, options):
    """A hexadecimal number of what a result came from: the rounds' checksums, and the options."""
    sums = [finished_round.fingerprint() for finished_round in rounds]
    return hashlib.sha256(json.dumps([sums, options]).encode()).hexdigest()
