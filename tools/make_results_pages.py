"""Writes docs/results/*.md from tools/results/*.md and the CSV files of docs.

python -m tools.make_results_pages

A template is a page in which {{an expression}} stands for a number. The expressions call the
functions below; `acc("fig01_small", at=10.7, batch_size=60, reset="init")` is an accuracy in
percent as "97.17 (97.00 to 97.32)".
"""

import csv
import functools
import itertools
import math
import pathlib
import re
from collections.abc import Iterator, Sequence

from lottery_tf.analysis import statistics
from lottery_tf.plots import Row

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ROOT / "docs" / "results"
TEMPLATES = pathlib.Path(__file__).parent / "results"
METHODS = {  # of methods.csv and dynamic.csv: words, trainings until 10.7 and 3.5%, flags
    "dense": ("dense network, 100%", "1", ""),
    "init": ("ticket", "11, 16", "--reset=init"),
    "rewind": ("rewound to epoch 1", "11, 16", "--reset=rewind --rewind_to=1ep"),
    "trained_signs": ("trained signs, fresh magnitudes", "11, 16", "--reset=trained_signs"),
    "signs": ("signs of W_0, fresh magnitudes", "11, 16", "--reset=signs"),
    "connected": ("short rounds once connected", "4, 5", "--early_stop=connected --short_epochs=5"),
    "lr_rewind": ("learning rate rewound", "11, 16", "--reset=lr_rewind"),
    "finetune": ("fine-tuned", "11, 16", "--reset=finetune"),
    "reinit": ("reinit, its own chain", "11, 16", "--reset=reinit"),
    "masks_reinit": (
        "ticket's masks, fresh weights",
        "1 on each mask",
        "--masks_from=… --reset=reinit",
    ),
    "masks_shuffled": (
        "ticket's masks, shuffled",
        "1 on each mask",
        "--masks_from=… --shuffle_masks=layer",
    ),
    "shuffle": ("W_0 shuffled inside layers", "11, 16", "--reset=shuffle"),
    "gradual": ("gradual", "1", "--prune_at=train"),
    "rigl": ("RigL", "1", "--prune_at=dynamic --scope=erk"),
    "set": ("SET", "1", "--prune_at=dynamic --scope=erk --regrow=random"),
    "one_shot": ("one-shot", "2", "--rounds=2 --density=…"),
    "one_shot_finetune": ("one-shot, fine-tuned", "2", "--rounds=2 --density=… --reset=finetune"),
    "snip": ("SNIP", "1", "--prune_at=init --criterion=snip"),
    "grasp": ("GraSP", "1", "--prune_at=init --criterion=grasp"),
    "synflow": ("SynFlow", "1", "--prune_at=init --criterion=synflow"),
    "static": (
        "random, density per layer by ERK",
        "1",
        "--prune_at=init --criterion=random --scope=erk",
    ),
    "random": ("random over all layers", "1", "--prune_at=init --criterion=random"),
}
TOP = "<!-- Made from tools/results/{} by tools.make_results_pages -->\n\n"


def main() -> None:
    for path in sorted(TEMPLATES.glob("*.md")):
        (PAGES / path.name).write_text(page(path.name), "utf-8")
        print(f"Wrote docs/results/{path.name}")


def page(name: str) -> str:
    """Return the text of a page of docs/results."""
    template = (TEMPLATES / name).read_text("utf-8")
    text = re.sub(r"{{(.+?)}}", lambda found: eval(found[1], globals()), template)
    return TOP.format(name) + text


@functools.cache
def read(file: str) -> list[Row]:
    """Return the rows of a CSV file of docs, with numbers where there are numbers."""
    with _path(file).open(encoding="utf-8", newline="") as lines:
        rows = [*csv.DictReader(lines)]
    return [{name: _number(cell) for name, cell in row.items()} for row in rows]


def select(file: str, *, at: float | None = None, apart: int | None = None, **where) -> list[Row]:
    """Return the rows of a file that have these values.

    `at` is a density in percent, as exact as it is written; a range stands for any value in it;
    `apart=1` keeps the distances between a round and the next.
    """
    rows = [row for row in read(file) if all(_is(row[name], where[name]) for name in where)]
    if at is not None:
        half = 0.5 if at == int(at) else 0.05
        rows = [row for row in rows if abs(100 * row["density"] - at) <= half]
    if "to" not in where:  # distances to W_0 are asked for by name
        rows = [row for row in rows if row.get("to") != "init"]
    if apart is not None:
        rows = [row for row in rows if row["to"] == row["round"] + apart]
    if not rows:
        raise ValueError(f"Expected rows in {file}.csv. Received: at={at}, {where}")
    return rows


def _is(cell: float | str, wanted) -> bool:
    return cell in wanted if isinstance(wanted, range) else cell == wanted


def value(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return "mean (min to max)" over the seeds; a tuple in `where` gives a list of them."""
    return _listed(_value, file, column, scale, digits, where)


def mean(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return the mean over the seeds alone; a tuple in `where` gives a list of them."""
    return _listed(_mean, file, column, scale, digits, where)


def span(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return "least to most" of the means of several rows."""
    means = [row[column] for row in select(file, **where) if row[column] != ""]
    return f"{_text(scale * min(means), digits)} to {_text(scale * max(means), digits)}"


def extreme(file: str, column: str, pick, *, scale: float = 1, **where) -> str:
    """Return the least or greatest mean of several rows, by `pick`, and its density.

    For a distance it is the density of the later round.
    """
    row = pick(select(file, **where), key=lambda row: row[column])
    later = row.get("to", row["round"])
    density = next(row["density"] for row in read(file) if row["round"] == later)
    return f"{_text(scale * row[column], 2)} at {100 * density:.2g}%"


def acc(file: str, *, only: str = "", **where) -> str:
    """Return a test accuracy in percent; only="mean": without its least and most."""
    of = mean if only == "mean" else value
    return of(file, "test_accuracy", scale=100, **where)


def lead(file: str, **where) -> str:
    """Return the lead of tickets over the reinits of their seeds in points."""
    return value(file, "lead", scale=100, **where)


def ratio(file: str, column: str, over: dict | str, *, digits: int = 2, **where) -> str:
    """Return a mean over that of another column, or of the rows with the values of `over`."""
    other = (over, {}) if isinstance(over, str) else (column, over)

    def text_of(chosen: dict) -> str:
        below = _spread(select(file, **chosen | other[1]), other[0])[0]
        return _text(_spread(select(file, **chosen), column)[0] / below, digits)

    return ", ".join(map(text_of, _choices(where)))


def minus(file: str, other: dict, **where) -> str:
    """Return by how many points an accuracy is above that of the rows with the values of `other`.

    It is a difference of means, for files without a row per seed.
    """

    def text_of(chosen: dict) -> str:
        ends = (_spread(select(file, **chosen | of), "test_accuracy")[0] for of in ({}, other))
        return _text(100 * (next(ends) - next(ends)), 2)

    return ", ".join(map(text_of, _choices(where)))


def valley(file: str, **where) -> str:
    """Return the weights in the emptier bin beside zero, in percent of the fullest bin."""
    rows = sorted(select(file, **where), key=lambda row: abs(row["from"] + row["to"]))
    counts = [row["count"] for row in rows]
    return _text(100 * min(counts[:2]) / max(counts), 0)


def peaks(file: str, **where) -> str:
    """Return the weights in the fullest bins below and above zero."""
    rows = select(file, **where)
    below = max(row["count"] for row in rows if row["to"] <= 1e-9)
    above = max(row["count"] for row in rows if row["from"] >= -1e-9)
    return f"{below:,.0f}, {above:,.0f}"


def gain(one: str, other: str, *, at: float) -> str:
    """Return how much more accurate one method is than another in points, paired by seed.

    It is a mean with its 95% t interval. The methods are those of METHODS.
    """
    found = [
        {row["seed"]: 100 * row["test_accuracy"] for row in _method(name, at)}
        for name in (one, other)
    ]
    return _with_interval([found[0][seed] - found[1][seed] for seed in sorted(found[0])])


def interval(file: str, column: str, *, scale: float = 1, **where) -> str:
    """Return the mean of a difference that a file has for each seed, with its 95% t interval."""
    return _with_interval([scale * row[column] for row in select(file, **where)])


def over_rounds(file: str, *, rounds: range, **where) -> str:
    """Return an accuracy in percent that is averaged over rounds for each seed."""
    of_seeds: dict[float | str, list[float]] = {}
    for row in select(file, round=rounds, **where):
        of_seeds.setdefault(row["seed"], []).append(row["test_accuracy"])
    means = [{"test_accuracy": math.fsum(of) / len(of)} for of in of_seeds.values()]
    return _value(means, "test_accuracy", 100, 2)


def methods() -> str:
    """Return the lines of the table of all methods."""
    lines = []
    for name, (words, trainings, flags) in METHODS.items():
        cells = [_value(_method(name, at), "test_accuracy", 100, 2) for at in (10.7, 3.5)]
        cells += [gain(name, "init", at=at) if name != "init" else "" for at in (10.7, 3.5)]
        shown = f"`{flags}`" if flags else ""
        lines.append(f"| {' | '.join([words, shown, trainings, *cells])} |")
    return "\n".join(lines)


def data(file: str, words: str = "csv") -> str:
    """Return the link to a CSV file."""
    folder = "../figures/" if _path(file).parent.name == "figures" else "../"
    return f"[{words}]({folder}{file}.csv)"


def said(text: str) -> str:
    """Return what has no file: a published number, or one that a log said."""
    return text


def _method(name: str, at: float) -> list[Row]:
    if name == "dense":
        return select("methods", method="init", round=0)
    file = "dynamic" if any(row["method"] == name for row in read("dynamic")) else "methods"
    return select(file, method=name, at=at)


def _path(file: str) -> pathlib.Path:
    path = ROOT / "docs" / "figures" / f"{file}.csv"
    return path if path.exists() else ROOT / "docs" / f"{file}.csv"


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _listed(text_of, file: str, column: str, scale: float, digits: int, where: dict) -> str:
    return ", ".join(
        text_of(select(file, **chosen), column, scale, digits) for chosen in _choices(where)
    )


def _choices(where: dict) -> Iterator[dict]:
    """Yield `where` with one value each in place of its tuples, in their order."""
    lists = [wanted if isinstance(wanted, tuple) else (wanted,) for wanted in where.values()]
    for values in itertools.product(*lists):
        yield dict(zip(where, values, strict=True))


def _value(rows: Sequence[Row], column: str, scale: float, digits: int) -> str:
    middle, low, high = (_text(scale * end, digits) for end in _spread(rows, column))
    one_run = len(rows) == 1 and (rows[0].get("runs") == 1 or f"{column}_min" not in rows[0])
    return middle if one_run else f"{middle} ({low} to {high})"


def _mean(rows: Sequence[Row], column: str, scale: float, digits: int) -> str:
    return _text(scale * _spread(rows, column)[0], digits)


def _spread(rows: Sequence[Row], column: str) -> tuple[float, float, float]:
    """Return mean, min and max of one row that holds them, or of one row per seed."""
    if len(rows) == 1:
        row = rows[0]
        ends = (row.get(f"{column}_{end}", row[column]) for end in ("min", "max"))
        return (row[column], *ends)
    seeds = {row.get("seed", i) for i, row in enumerate(rows)}
    if len(seeds) < len(rows) or f"{column}_min" in rows[0]:
        raise ValueError(f"Expected one row per seed. Received: {rows[:3]} …")
    values = [row[column] for row in rows]
    return math.fsum(values) / len(values), min(values), max(values)


def _with_interval(differences: Sequence[float]) -> str:
    """Return a mean with its 95% t interval."""
    of = statistics.interval(differences)
    low, high = _text(of.low, 2, "+"), _text(of.high, 2, "+")
    return f"{_text(of.mean, 2, '+')} ({low}, {high})"


def _text(number: float, digits: int, sign: str = "") -> str:
    text = f"{number + 1e-9:{sign}.{digits}f}"  # a half that rounding left below it goes up
    return text.replace("-", "\N{MINUS SIGN}")


if __name__ == "__main__":
    main()
