"""Recomputes numbers of the results pages from the CSV files, as a referee would.

python -m tests.referee --count=40 --seed=36

A template of tools/results says which file, column and rows a number is of. What follows from
them is computed here again, without the code that writes the pages.
"""

import argparse
import csv
import dataclasses
import itertools
import random
import re
import statistics
from typing import NamedTuple

from scipy import stats

from tests.conftest import ROOT

NUMBER = re.compile(r"[+\N{MINUS SIGN}]?\d+(?:,\d{3})*(?:\.\d+)?")
MARGIN, SIMILAR, CONNECTED, STABLE = 0.2, 0.8, 0.02, 0.02
RULES = {"similar": SIMILAR, "connected": CONNECTED, "stable": STABLE}
COLUMNS = {"similar": "to_previous", "connected": "error_barrier", "stable": "instability"}


@dataclasses.dataclass(frozen=True)
class Number:
    """A number of a page, and what it should be."""

    page: str
    expression: str
    shown: str
    computed: float

    def agrees(self):
        text = self.shown.replace("\N{MINUS SIGN}", "-").replace(",", "")
        decimals = len(text.partition(".")[2])
        return abs(float(text) - self.computed) <= 0.5 * 10**-decimals + 1e-8


class Interval(NamedTuple):
    mean: float
    low: float
    high: float
    count: int
    deviation: float


# Files ----------------------------------------------------------------------------------------


def rows_of(file, at=None, apart=None, **where):
    path = ROOT / "docs" / "figures" / f"{file}.csv"
    if not path.exists():
        path = ROOT / "docs" / f"{file}.csv"
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))

    def fits(row):
        if row.get("to") == "init" and "to" not in where:
            return False
        if apart is not None and int(row["to"]) != int(row["round"]) + apart:
            return False
        if at is not None:
            digits = 0 if at == int(at) else 1
            if abs(100 * float(row["density"]) - at) > 0.5 * 10**-digits:
                return False
        return all(equal(row[name], wanted) for name, wanted in where.items())

    found = [row for row in rows if fits(row)]
    assert found, (file, at, apart, where)
    return found


def equal(cell, wanted):
    if isinstance(wanted, range):
        return int(float(cell)) in wanted
    try:
        return float(cell) == wanted
    except ValueError:
        return cell == wanted


def has_collapsed(row):
    return float(row.get("collapsed") or 0) > 0 or row.get("collapse", "") != ""


def one_of_each(where):
    lists = [of if isinstance(of, tuple) else (of,) for of in where.values()]
    return [dict(zip(where, values, strict=True)) for values in itertools.product(*lists)]


def values(rows, column):
    """The values of the seeds: of a row each, or from mean, least and most of up to three."""
    if "seed" in rows[0] or len(rows) > 1:
        sound = [row for row in rows if not has_collapsed(row)]
        return [float(row[column]) for row in sound if row[column] != ""]
    (row,) = rows
    mean, low, high = (float(row.get(column + end) or row[column]) for end in ("", "_min", "_max"))
    count = int(float(row.get("runs") or row.get("seeds") or (3 if f"{column}_min" in row else 1)))
    return {1: [mean], 2: [low, high], 3: [low, 3 * mean - low - high, high]}[count]


def mean_of(rows, column):
    return statistics.fmean(values(rows, column))


def by_place(rows):
    """Rows of each round, or pair of rounds."""
    names = [name for name in ("round", "to", "from_round", "to_round") if name in rows[0]]
    places = {}
    for row in rows:
        places.setdefault(tuple(row[name] for name in names), []).append(row)
    return places


# What templates call: each returns the numbers that it shows ------------------------------------


def value(file, column, *, scale=1, digits=2, **where):
    shown = []
    for chosen in one_of_each(where):
        rows = rows_of(file, **chosen)
        of = [scale * number for number in values(rows, column)]
        gone = sum(map(has_collapsed, rows)) if "seed" in rows[0] else 0
        shown += [statistics.fmean(of)]
        shown += [min(of), max(of)] if len(of) > 1 else []
        shown += [gone, len(rows)] if gone else []
    return shown


def mean(file, column, *, scale=1, digits=2, **where):
    return [scale * mean_of(rows_of(file, **of), column) for of in one_of_each(where)]


def median(file, column, *, digits=2, **where):
    of = [float(row[column]) for row in rows_of(file, **where)]
    return [statistics.median(of), min(of), max(of)]


def of_medians(file, column, over, **where):
    return [median(file, column, **where)[0] / median(file, column, **where | over)[0]]


def acc(file, *, only="", **where):
    of = mean if only else value
    return of(file, "test_accuracy", scale=100, **where)


def means(file, column, where):
    places = by_place(rows_of(file, **where))
    return {at: mean_of(of, column) for at, of in places.items() if of[0][column] != ""}


def least(file, column, *, scale=1, digits=2, **where):
    return [scale * min(means(file, column, where).values())]


def most(file, column, *, scale=1, digits=2, **where):
    return [scale * max(means(file, column, where).values())]


def span(file, column, **where):
    return least(file, column, **where) + most(file, column, **where)


def extreme(file, column, pick, *, scale=1, **where):
    found = means(file, column, where)
    place = pick(found, key=found.get)
    last = (
        {"to": "init"} if len(place) > 1 else {}
    )  # a matrix has rows of its last round to W_0 alone
    density = float(rows_of(file, round=int(place[-1]), **last)[0]["density"])
    return [scale * found[place], float(f"{100 * density:.2g}")]


def ratio(file, column, over, *, digits=2, **where):
    shown = []
    for of in one_of_each(where):
        below = (over, of) if isinstance(over, str) else (column, of | over)
        shown += [
            mean_of(rows_of(file, **of), column) / mean_of(rows_of(file, **below[1]), below[0])
        ]
    return shown


def minus(file, other, **where):
    ends = [
        [mean_of(rows_of(file, **of | o), "test_accuracy") for o in ({}, other)]
        for of in one_of_each(where)
    ]
    return [100 * (one - two) for one, two in ends]


def bins(file, where):
    counts = {}
    for row in rows_of(file, **where):
        ends = float(row["from"]), float(row["to"])
        counts[ends] = counts.get(ends, 0) + int(row["count"])
    return counts


def valley(file, **where):
    counts = bins(file, where)
    beside = [n for (low, high), n in counts.items() if min(abs(low), abs(high)) < 1e-12]
    assert len(beside) == 2
    return [100 * min(beside) / max(counts.values())]


def peaks(file, **where):
    counts = bins(file, where)
    middles = [(low + high, count) for (low, high), count in counts.items()]
    return [max(n for at, n in middles if at < 0), max(n for at, n in middles if at > 0)]


def over_rounds(file, *, rounds, **where):
    of_seeds = {}
    for row in rows_of(file, round=rounds, **where):
        of_seeds.setdefault(row["seed"], []).append(100 * float(row["test_accuracy"]))
    of = [statistics.fmean(one) for one in of_seeds.values()]
    return [statistics.fmean(of), min(of), max(of)]


def of_values(numbers):
    count, middle = len(numbers), statistics.fmean(numbers)
    if count < 2:
        return Interval(middle, middle, middle, 1, 0)
    deviation = statistics.stdev(numbers)
    half = stats.t.ppf(0.975, count - 1) * deviation / count**0.5
    return Interval(middle, middle - half, middle + half, count, deviation)


def paired(one, other, column="test_accuracy", scale=100):
    """The Interval of the differences between rows of the same seed."""
    ends = [
        {row["seed"]: scale * float(row[column]) for row in rows if not has_collapsed(row)}
        for rows in (one, other)
    ]
    return of_values([ends[0][seed] - ends[1][seed] for seed in ends[0].keys() & ends[1].keys()])


def method(name, at):
    if name == "dense":
        return rows_of("methods", method="init", round=0)
    for file in ("dynamic", "methods"):
        try:
            return rows_of(file, method=name, at=at)
        except AssertionError:
            continue
    raise AssertionError(name)


def gain(one, other, *, at):
    return paired(method(one, at), method(other, at))


def difference(file, one, other, *, column="test_accuracy", scale=100, **where):
    return paired(rows_of(file, **where | one), rows_of(file, **where | other), column, scale)


def lead(file, **where):
    found = []
    for of in one_of_each(where):
        rows = rows_of(file, **of)
        if "lead" in rows[0]:
            found.append(of_values([100 * number for number in values(rows, "lead")]))
        else:
            found.append(difference(file, {"reset": "init"}, {"reset": "reinit"}, **of))
    return found if len(found) > 1 else found[0]


def leads_of(file, of):
    """{seed: lead in points}, from rows of leads or of the two accuracies."""
    rows = rows_of(file, **of)
    if "lead" in rows[0]:
        return {row["seed"]: 100 * float(row["lead"]) for row in rows}
    ends = [
        {r["seed"]: 100 * float(r["test_accuracy"]) for r in rows if not has_collapsed(r)}
        for rows in (rows_of(file, reset=reset, **of) for reset in ("init", "reinit"))
    ]
    return {seed: ends[0][seed] - ends[1][seed] for seed in ends[0].keys() & ends[1].keys()}


def lead_above(file, other, **where):
    ends = [leads_of(file, of) for of in (where, where | other)]
    return of_values([ends[0][seed] - ends[1][seed] for seed in ends[0].keys() & ends[1].keys()])


def interval(file, column, *, scale=1, **where):
    return of_values([scale * number for number in values(rows_of(file, **where), column)])


def seeds_to_decide(of, gap):
    for count in range(of.count + 1, 1001):
        if stats.t.ppf(0.975, count - 1) * of.deviation / count**0.5 < gap:
            return count
    return 1000


def verdict(*found, within=MARGIN, unit=""):
    """The words of each verdict, as they should be."""
    words = []
    for of in (one for some in found for one in ([some] if isinstance(some, Interval) else some)):
        if of.count < 2:
            words.append("one seed")
        elif -within < of.low and of.high < within:
            words.append(f"equal within {within:g} {unit or 'points'}")
        elif of.low > 0 or of.high < 0:
            words.append("seen" if of.low > 0 else "not seen")
        else:
            count = seeds_to_decide(of, max(abs(of.mean), within - abs(of.mean)))
            words.append(f"undecided ({count} seeds would decide)")
    return ", ".join(words if len(set(words)) > 1 else words[:1])


def rule(name, file, column="", **where):
    limit = RULES[name]
    of_rounds = [
        of_values(values(rows, column or COLUMNS[name]))
        for rows in by_place(rows_of(file, **where)).values()
    ]
    below = [of for of in of_rounds if of.high < limit]
    above = [of for of in of_rounds if of.low >= limit]
    if len(below) == len(of_rounds):
        return "seen"
    if below:
        return "partly"
    if len(above) == len(of_rounds):
        return "not seen"
    counts = [seeds_to_decide(of, abs(of.mean - limit)) for of in of_rounds if of not in above]
    return f"undecided ({max(counts)} seeds would decide)"


def collapsed(file, **where):
    rows = rows_of(file, **where)
    if "seed" in rows[0]:
        return [sum(map(has_collapsed, rows)), len(rows)]
    (row,) = rows
    count = int(float(row.get("runs") or 3))
    if "collapsed" in row:
        return [round(float(row["collapsed"]) * count), count]
    return [sum(of < 0.15 for of in values(rows, "test_accuracy")), count]


def methods():
    from tools.make_results_pages import METHODS  # words and flags alone: None, no measured number

    shown = []
    for name, (words, trainings, flags) in METHODS.items():
        shown += [None for _ in NUMBER.findall(f"{words} {flags} {trainings}")]
        for at in (10.7, 3.5):
            of = [100 * float(row["test_accuracy"]) for row in method(name, at)]
            shown += [statistics.fmean(of), min(of), max(of)]
        if name != "init":
            shown += [end for at in (10.7, 3.5) for end in gain(name, "init", at=at)[:3]]
    return shown


def said(text, *words):
    """What is no number of a CSV file: links, published numbers."""
    return "\n".join([text, *words])


NOT_OURS = {
    "data": lambda file, words="csv": said(words, f"{file}.csv"),
    "published": said,
    "margin": lambda: f"{MARGIN:g}",
    "limit": lambda name: f"{RULES[name] if name == 'similar' else 100 * RULES[name]:g}",
}


def flat(found):
    """The numbers that a page shows of what a function returned."""
    if isinstance(found, str):
        return [
            float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
            for text in NUMBER.findall(found)
        ]
    if isinstance(found, Interval):
        ends = [found.mean, found.low, found.high] if found.count > 1 else [found.mean]
        return ends + [found.count] * (found.count not in (1, 3))
    return [number for of in found for number in (flat(of) if isinstance(of, Interval) else [of])]


# Pages ------------------------------------------------------------------------------------------


def numbers(page):
    """Every number of a page that its template computes, beside what it should be."""
    shown = NUMBER.finditer((ROOT / "docs" / "results" / page).read_text().partition("\n\n")[2])
    template = (ROOT / "tools" / "results" / page).read_text()
    found = []
    for i, part in enumerate(re.split(r"{{(.+?)}}", template)):
        if i % 2 == 0:
            for text in NUMBER.findall(part):
                assert next(shown)[0] == text, (page, part)
            continue
        for computed in flat(eval(part, globals() | NOT_OURS)):
            text = next(shown)[0]
            if part.partition("(")[0] not in NOT_OURS and computed is not None:
                found.append(Number(page, part, text, computed))
    assert next(shown, None) is None, page
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=36)
    asked = parser.parse_args()
    pages = sorted(path.name for path in (ROOT / "tools" / "results").glob("*.md"))
    everything = [number for page in pages for number in numbers(page)]
    drawn = random.Random(asked.seed).sample(everything, asked.count)
    for of in drawn:
        print(
            "agrees " if of.agrees() else "DIFFERS", of.page, of.shown, of.computed, of.expression
        )
    agreeing = sum(of.agrees() for of in drawn)
    print(f"{agreeing} of {len(drawn)} agree, of {len(everything)} numbers; seed {asked.seed}")


if __name__ == "__main__":
    main()
