"""What need not be computed again."""

import hashlib
import json
import pathlib

from lottery_tf.store import files


class Cache:
    """Results by a digest of the rounds and options that they came from.

    Nothing is computed twice while these are unchanged, and a growing run adds only its new rounds.

    Args:
        path: the JSON file that keeps it; by default it is kept in memory alone.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self.path = path
        try:
            self.known = json.loads(path.read_text()) if path else {}
        except (OSError, ValueError):  # none yet, or damaged: it is computed again
            self.known = {}

    def reuse(self, rounds, options, compute):
        """compute(), or what it gave for these rounds and options before.

        Args:
            rounds: FinishedRounds that it is computed from.
            options: what it depends on besides, for json.
            compute: a function that gives rows, [{column: value}], or anything that json holds.
        """
        key = digest(rounds, options)
        if key not in self.known:
            self.known[key] = compute()
            self.save()
        return self.known[key]

    def find(self, options):
        """What was kept for these options; None without."""
        return self.known.get(digest((), options))

    def keep(self, options, value):
        """Keeps a value for `find`; `save` writes it."""
        self.known[digest((), options)] = value

    def save(self):
        """Writes what is kept."""
        if self.path:
            files.write_text(self.path, json.dumps(self.known))


def digest(rounds, options) -> str:
    """A hexadecimal number of what a result came from: the rounds' checksums, and the options."""
    sums = [finished_round.fingerprint() for finished_round in rounds]
    return hashlib.sha256(json.dumps([sums, options]).encode()).hexdigest()
