"""Writes docs/results/*.md from tools/results/*.md and the CSV files of docs.

python -m tools.make_results_pages

A template is a page in which {{an expression}} stands for a number or a verdict. The expressions
call the functions below:

    acc("fig01_small", at=10.7, batch_size=60, reset="init")   97.17 (97.00 to 97.32), in percent
    lead("headline", batch_size=512, at=10.7)                  +0.83 (+0.71, +0.95), in points
    verdict(lead("headline", batch_size=512, at=10.7))         seen

A CSV file has either a row for each seed (column "seed"), or means over seeds with columns that
end in _min and _max. Differences between settings are paired by seed, so they need the first kind.
Networks that have collapsed are left out of every number.
"""

import csv
import functools
import itertools
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from statistics import median as median_of

from lottery_tf.analysis import instability, statistics
from lottery_tf.analysis.statistics import Interval
from lottery_tf.plots import Row
from lottery_tf.reports import verdicts

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
USUAL_SEEDS = 3  # a page names another number
MARGIN = 0.2  # points: accuracies of LeNet on MNIST that differ by less are called equal
# Ten classes: a mean that holds such an accuracy holds a network that has collapsed. For files of
# means without the column "collapsed".
COLLAPSED = 0.15
# Rules of reports/verdicts.py on a measure, {name: (rule, column of the round, its own column)}
RULES: dict[str, tuple[Callable[[verdicts.Runs], verdicts.Verdict], str, str]] = {
    "similar": (verdicts.similar, "round", "to_previous"),
    "connected": (verdicts.connected, "to_round", "error_barrier"),
    "stable": (verdicts.stable, "round", "instability"),
}
PLACES = ("round", "to", "from_round", "to_round")  # what tells the rows of one seed apart
Seeds = dict[float | str, float]  # {seed: value}
TOP = "<!-- Made from tools/results/{} by tools.make_results_pages -->\n\n"


def main() -> None:
    for path in sorted(TEMPLATES.glob("*.md")):
        (PAGES / path.name).write_text(page(path.name), "utf-8")
        print(f"Wrote docs/results/{path.name}")


def page(name: str) -> str:
    """Return the text of a page of docs/results."""
    template = (TEMPLATES / name).read_text("utf-8")
    text = re.sub(r"{{(.+?)}}", lambda found: in_words(eval(found[1], globals())), template)
    return TOP.format(name) + text


def in_words(found: str | Interval | Sequence[Interval]) -> str:
    """Return the text of what a function below returns: of an Interval, mean (low, high)."""
    if isinstance(found, str):
        return found
    if not isinstance(found, Interval):
        return ", ".join(map(in_words, found))
    mean, low, high = (_text(of, 2, "+") for of in (found.mean, found.low, found.high))
    seeds = f", {found.count} seeds" if found.count != USUAL_SEEDS else ""
    return mean if found.count < 2 else f"{mean} ({low}, {high}{seeds})"


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


def median(file: str, column: str, *, digits: int = 2, **where) -> str:
    """Return "median (least to most)" of repeats of a measurement."""
    values = [row[column] for row in select(file, **where)]
    middle, low, high = (_text(of(values), digits) for of in (median_of, min, max))
    return f"{middle} ({low} to {high})"


def of_medians(file: str, column: str, over: dict, **where) -> str:
    """Return the median of some repeats, over that of those with the values of `over`."""
    ends = ([row[column] for row in select(file, **where | other)] for other in ({}, over))
    above, below = map(median_of, ends)
    return _text(above / below, 2)


def span(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return "least to most" of the means of several rows."""
    ends = least, most
    return " to ".join(of(file, column, scale=scale, digits=digits, **where) for of in ends)


def least(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return the least of the means of several rows."""
    return _text(scale * min(_means(select(file, **where), column).values()), digits)


def most(file: str, column: str, *, scale: float = 1, digits: int = 2, **where) -> str:
    """Return the largest of the means of several rows."""
    return _text(scale * max(_means(select(file, **where), column).values()), digits)


def extreme(file: str, column: str, pick, *, scale: float = 1, **where) -> str:
    """Return the least or greatest mean of several rows, by `pick`, and its density.

    For a distance it is the density of the later round.
    """
    means = _means(select(file, **where), column)
    (round, *others), found = pick(means.items(), key=lambda item: item[1])
    later = others[0] if others else round
    density = next(row["density"] for row in read(file) if row["round"] == later)
    return f"{_text(scale * found, 2)} at {100 * density:.2g}%"


def acc(file: str, *, only: str = "", **where) -> str:
    """Return a test accuracy in percent; only="mean": without its least and most."""
    of = mean if only == "mean" else value
    return of(file, "test_accuracy", scale=100, **where)


def ratio(file: str, column: str, over: dict | str, *, digits: int = 2, **where) -> str:
    """Return a mean over that of another column, or of the rows with the values of `over`."""
    other = (over, {}) if isinstance(over, str) else (column, over)

    def text_of(chosen: dict) -> str:
        below = _spread(select(file, **chosen | other[1]), other[0])[0]
        return _text(_spread(select(file, **chosen), column)[0] / below, digits)

    return ", ".join(map(text_of, _choices(where)))


def valley(file: str, **where) -> str:
    """Return the weights in the emptier bin beside zero, in percent of the fullest bin."""
    bins = _bins(file, where)
    counts = [bins[ends] for ends in sorted(bins, key=lambda ends: abs(sum(ends)))]
    return _text(100 * min(counts[:2]) / max(counts), 0)


def peaks(file: str, **where) -> str:
    """Return the weights in the fullest bins below and above zero."""
    bins = _bins(file, where)
    below = max(count for (_, high), count in bins.items() if high <= 1e-9)
    above = max(count for (low, _), count in bins.items() if low >= -1e-9)
    return f"{below:,.0f}, {above:,.0f}"


# Differences between settings: paired by seed, with their 95% t interval ----------------------


def lead(file: str, **where) -> Interval | list[Interval]:
    """Return the lead in points: a ticket's accuracy less that of the reinit of its seed.

    A tuple in `where` gives a list of them. The file has the column "lead", or the two accuracies.
    """
    found = [statistics.interval(_leads(file, chosen).values()) for chosen in _choices(where)]
    return found if len(found) > 1 else found[0]


def lead_above(file: str, other: dict, **where) -> Interval:
    """Return by how many points a lead is above that of the rows with the values of `other`."""
    return _paired(*(_leads(file, where | of) for of in ({}, other)))


def difference(
    file: str, one: dict, other: dict, *, column: str = "test_accuracy", scale: float = 100, **where
) -> Interval:
    """Return by how much the rows with the values of `one` are above those of `other`."""
    rows = (select(file, **where | of) for of in (one, other))
    return _paired(*(_by_seed(of, column, scale) for of in rows))


def gain(one: str, other: str, *, at: float) -> Interval:
    """Return how much more accurate one of METHODS is than another in points."""
    found = [_by_seed(_method(name, at), "test_accuracy", 100) for name in (one, other)]
    return _paired(*found)


def interval(file: str, column: str, *, scale: float = 1, **where) -> Interval:
    """Return the mean over the seeds with its 95% t interval."""
    return statistics.interval(_values(select(file, **where), column, scale))


def minus(file: str, other: dict, **where) -> str:
    """Return by how many points an accuracy is above that of the rows with the values of `other`.

    It is a difference of means alone, for files without a row per seed: no verdict rests on it.
    """

    def text_of(chosen: dict) -> str:
        ends = (_spread(select(file, **chosen | of), "test_accuracy")[0] for of in ({}, other))
        return _text(100 * (next(ends) - next(ends)), 2)

    return ", ".join(map(text_of, _choices(where)))


# Verdicts, by the rules of reports/verdicts.py ------------------------------------------------


def verdict(
    *found: Interval | Sequence[Interval], within: float = MARGIN, unit: str = "points"
) -> str:
    """Return what differences say of the claim that they are above zero, each alone unless alike.

    Seen, not seen, equal within the margin, undecided with the number of seeds that would decide,
    or one seed. The differences are in points, unless a unit is given.
    """
    each = [of for one in found for of in ([one] if isinstance(one, Interval) else one)]
    answers = [verdicts.judge(of, within, f"{within:g} {unit}") for of in each]
    return answers[0] if len(set(answers)) == 1 else ", ".join(answers)


def rule(name: str, file: str, column: str = "", **where) -> str:
    """Return the answer of one of RULES on a measure of several rounds, each over the seeds."""
    judge, round, there = RULES[name]
    runs: dict[str, list[Row]] = {}
    of_rounds: dict[float, list[Row]] = {}
    for row in select(file, **where):
        of_rounds.setdefault(row["to"] if "to" in row else row[round], []).append(row)
    for number, rows in of_rounds.items():
        for seed, value in enumerate(_values(rows, column or there, 1)):
            row = {round: int(number), "from_round": int(number) - 1, there: value}
            runs.setdefault(str(seed), []).append(row)
    answer = judge(runs).answer
    return {verdicts.YES: verdicts.SEEN, verdicts.NO: verdicts.NOT_SEEN}.get(answer, answer)


def margin() -> str:
    """Return the margin within which accuracies of LeNet are equal, in points."""
    return f"{MARGIN:g}"


def limit(name: str) -> str:
    """Return the threshold of one of RULES: in points, or of an angular distance."""
    of = {"similar": verdicts.SIMILAR, "connected": 100 * verdicts.CONNECTED}
    return f"{of.get(name, 100 * instability.STABLE):g}"


def collapsed(file: str, **where) -> str:
    """Return how many of the networks of a row, or of its seeds, have collapsed: "1 of 3"."""
    rows = select(file, **where)
    if "seed" in rows[0]:
        return f"{sum(map(statistics.has_collapsed, rows))} of {len(rows)}"
    (row,) = rows
    count, part = _count(row), row.get("collapsed")
    if part is None:
        part = sum(of < COLLAPSED for of in _three(row, "test_accuracy")) / count
    return f"{round(part * count)} of {count}"


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
        gains = [gain(name, "init", at=at) for at in (10.7, 3.5)]
        cells += [in_words(of) if name != "init" else "" for of in gains]
        shown = f"`{flags}`" if flags else ""
        lines.append(f"| {' | '.join([words, shown, trainings, *cells])} |")
    return "\n".join(lines)


def data(file: str, words: str = "csv") -> str:
    """Return the link to a CSV file."""
    folder = "../figures/" if _path(file).parent.name == "figures" else "../"
    return f"[{words}]({folder}{file}.csv)"


def published(text: str) -> str:
    """Return a number that a paper has; the words beside it name the paper."""
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


def _bins(file: str, where: dict) -> dict[tuple[float, float], float]:
    """Return {(from, to): weights of all seeds} of the bins of a histogram."""
    bins: dict[tuple[float, float], float] = {}
    for row in select(file, **where):
        ends = row["from"], row["to"]
        bins[ends] = bins.get(ends, 0) + row["count"]
    return bins


def _means(rows: Sequence[Row], column: str) -> dict[tuple, float]:
    """Return {values of PLACES: mean over the seeds} of rows of several rounds, or pairs of them.

    Rounds of which nothing is known are left out.
    """
    found: dict[tuple, list[Row]] = {}
    for row in _sound(rows, column) if "seed" in rows[0] else rows:
        if row[column] != "":
            found.setdefault(tuple(row[name] for name in PLACES if name in row), []).append(row)
    return {place: _spread(of, column)[0] for place, of in found.items()}


def _value(rows: Sequence[Row], column: str, scale: float, digits: int) -> str:
    middle, low, high = (_text(scale * end, digits) for end in _spread(rows, column))
    one_run = len(rows) == 1 and (rows[0].get("runs") == 1 or f"{column}_min" not in rows[0])
    gone = len(rows) - len(_sound(rows, column)) if "seed" in rows[0] else 0
    told = f"; {gone} of {len(rows)} collapsed" if gone else ""
    return middle if one_run else f"{middle} ({low} to {high}{told})"


def _mean(rows: Sequence[Row], column: str, scale: float, digits: int) -> str:
    return _text(scale * _spread(rows, column)[0], digits)


def _spread(rows: Sequence[Row], column: str) -> tuple[float, float, float]:
    """Return mean, min and max of one row that holds them, or of one row per seed."""
    if len(rows) == 1:
        (row,) = rows
        _check_sound(row)
        ends = (row.get(f"{column}_{end}", row[column]) for end in ("min", "max"))
        return (row[column], *ends)
    seeds = {row.get("seed", i) for i, row in enumerate(rows)}
    if len(seeds) < len(rows) or f"{column}_min" in rows[0]:
        raise ValueError(f"Expected one row per seed. Received: {rows[:3]} …")
    values = [row[column] for row in _sound(rows, column)]
    return math.fsum(values) / len(values), min(values), max(values)


def _sound(rows: Sequence[Row], column: str) -> list[Row]:
    """Return the rows, per seed, of networks that have not collapsed."""
    return [row for row in rows if row[column] != "" and not statistics.has_collapsed(row)]


def _check_sound(row: Row) -> None:
    """Raise ValueError if a mean was taken over networks of which some have collapsed."""
    low = row.get("test_accuracy_min", 1)
    if row.get("runs") != 1 and (statistics.has_collapsed(row) or low < COLLAPSED):
        raise ValueError(f"Expected no mean over networks that have collapsed. Received: {row}")


def _count(row: Row) -> int:
    """Return how many seeds a row of means is of: three, unless it says so."""
    return int(row.get("runs") or row.get("seeds") or 3)


def _three(row: Row, column: str) -> list[float]:
    """Return the values of up to three seeds, which mean, least and most determine."""
    low, high, count = row[f"{column}_min"], row[f"{column}_max"], _count(row)
    if count > 3:
        raise ValueError(f"Expected at most three seeds. Received: {row}")
    return [low, high, 3 * row[column] - low - high][:count]


def _values(rows: Sequence[Row], column: str, scale: float) -> list[float]:
    """Return the values of the seeds, of rows per seed or of a row of means."""
    if "seed" in rows[0]:
        return [*_by_seed(rows, column, scale).values()]
    (row,) = rows
    _check_sound(row)
    return [scale * of for of in (_three(row, column) if f"{column}_min" in row else [row[column]])]


def _by_seed(rows: Sequence[Row], column: str, scale: float) -> Seeds:
    """Return {seed: value} of rows per seed; seeds whose network has collapsed are left out."""
    if len({row["seed"] for row in rows}) < len(rows):
        raise ValueError(f"Expected one row per seed. Received: {rows[:3]} …")
    return {row["seed"]: scale * row[column] for row in _sound(rows, column)}


def _leads(file: str, where: dict) -> Seeds:
    """Return {seed: lead in points}; of a row of means the seeds are numbers that name none."""
    rows = select(file, **where)
    if "lead" in rows[0] and "seed" not in rows[0]:
        return dict(enumerate(_values(rows, "lead", 100)))
    if "lead" in rows[0]:
        return _by_seed(rows, "lead", 100)
    tickets, reinits = (
        {row["seed"]: [row] for row in select(file, **where | {"reset": reset})}
        for reset in ("init", "reinit")
    )
    found = statistics.leads(tickets, reinits)
    return {row["seeds"]: 100 * row["lead"] for row in found if not row["collapsed"]}


def _paired(one: Seeds, other: Seeds) -> Interval:
    return statistics.interval([one[seed] - other[seed] for seed in sorted(one) if seed in other])


def _text(number: float, digits: int, sign: str = "") -> str:
    text = f"{number + 1e-9:{sign}.{digits}f}"  # a half that rounding left below it goes up
    return text.replace("-", "\N{MINUS SIGN}")


if __name__ == "__main__":
    main()
