"""What the tools leave: tables and pictures, and what need not be computed again."""

import hashlib
import json
import pathlib

from lottery_tf.errors import InputError
from lottery_tf.store import files


class Results:
    """The results of one analysis, in a directory, by default analysis/ of a run.

    <name>.csv and <name>.png are for people. <name>.cache.json holds what was computed, by a digest
    of the rounds and flags that it came from, so that nothing is computed twice while these are
    unchanged, and a growing run adds only its new rounds.

    Args:
        run: RunDir.
        name: of the files.
        directory: where to write; by default run.path/analysis.

    Raises:
        InputError: the directory cannot be made.
    """

    def __init__(self, run, name, directory=None):
        self.run, self.name = run, name
        self.directory = pathlib.Path(directory or run.path / "analysis")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot write into {self.directory}: {error.strerror}. Use another --out_dir."
            ) from None
        self.cache = self.directory / f"{name}.cache.json"
        try:
            self.known = json.loads(self.cache.read_text())
        except (OSError, ValueError):  # none yet, or damaged: it is computed again
            self.known = {}

    def reuse(self, networks, options, compute):
        """compute(), or what it gave for these networks and options before.

        Args:
            networks: rounds.Network that it is computed from.
            options: what it depends on besides, for json.
            compute: a function that gives rows, [{column: value}], or anything that json holds.
        """
        key = digest(networks, options)
        if key not in self.known:
            self.keep(networks, options, compute())
            self.save()
        return self.known[key]

    def find(self, networks, options=()):
        """What was kept for these networks and options; None without."""
        return self.known.get(digest(networks, options))

    def keep(self, networks, options, value):
        """Keeps a value for `find`; `save` writes it."""
        self.known[digest(networks, options)] = value

    def save(self):
        """Writes what is kept."""
        files.write_text(self.cache, json.dumps(self.known))

    def write_table(self, rows, suffix=""):
        """Writes <name><suffix>.csv."""
        path = self.directory / f"{self.name}{suffix}.csv"
        files.write_text(path, files.format_csv(rows).decode())

    def write_matrix(self, values, rows, columns, suffix=""):
        """Writes <name><suffix>.csv of a matrix, with a header and a first column of labels."""
        table = [
            {"round": label} | dict(zip(map(str, columns), map(float, line), strict=True))
            for label, line in zip(rows, values, strict=True)
        ]
        self.write_table(table, suffix)

    def draw(self, draw, *arguments, suffix="", pdf=False, **options):
        """Writes <name><suffix>.png with one of the functions of figures; returns its path."""
        path = self.directory / f"{self.name}{suffix}.png"
        for ending in (".png", ".pdf")[: 1 + pdf]:
            draw(*arguments, path.with_suffix(ending), **options)
        return path


def digest(networks, options):
    """A hexadecimal number of what a result came from: the rounds' checksums, and the options."""
    sums = [fingerprint(network) for network in networks]
    return hashlib.sha256(json.dumps([sums, options]).encode()).hexdigest()


def fingerprint(network):
    """A hexadecimal number that changes when a round is trained again."""
    path = network.file("final").parent / files.SUMS
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None


def means(rows, by, *, of=1):
    """Rows of the means over rows that agree in some columns, with min and max beside them.

    Args:
        rows: [{column: value}]; columns that are not numbers are left out, as are those named
            _min and _max, of earlier means.
        by: the columns, as ("round",).
        of: how many rows a mean must be of; groups of fewer are left out.

    Returns:
        [{column: mean, column_min: …, column_max: …}], in the order of the first rows.
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    found = []
    for key, group in groups.items():
        if len(group) < of:
            continue
        mean = dict(zip(by, key, strict=True))
        for name in (name for name in group[0] if name not in by):
            values = [row[name] for row in group]
            if isinstance(values[0], int | float) and not name.endswith(("_min", "_max")):
                mean |= {name: sum(values) / len(values)}
                mean |= {f"{name}_min": min(values), f"{name}_max": max(values)}
        found.append(mean)
    return found


def replicates(tables, by):
    """`means` over the tables of several runs, of the rows that all have."""
    return means([row for table in tables for row in table], by, of=len(tables))
