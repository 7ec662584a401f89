"""Says what the numbers of runs mean, beside the rule that decides.

Each function takes the rows of one run or of several, {name of the run: rows}, and returns a
Verdict. The statistics are those of analysis/statistics.py.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from lottery_tf.analysis import instability
from lottery_tf.analysis.statistics import (
    MOST_SEEDS,
    Interval,
    Seeds,
    dense_row,
    has_collapsed,
    interval,
    matching_rows,
    names_of,
    of_leads,
    seeds_to_decide,
    tolerance,
)
from lottery_tf.plots import Row

# Random directions are orthogonal: 1, give or take 2 / (pi sqrt(weights)). Reinits of LeNet have
# 0.94 to 1.02, tickets 0.64 falling to 0.19 (docs/analysis.md). On 100 weights, chance is below
# 0.8 once in a thousand rounds.
SIMILAR = 0.8
CONNECTED = 0.02  # as instability.STABLE, the same measure between other networks
# Answers about a measure that is held against a threshold; of one seed it is ONE_SEED.
YES, PARTLY, NO, UNKNOWN, COLLAPSED = "yes", "partly", "no", "not measured", "collapsed"
# Answers about a difference between two settings; EQUAL is followed by the margin, UNDECIDED by
# the number of seeds that would decide.
SEEN, NOT_SEEN, EQUAL, UNDECIDED = "seen", "not seen", "equal within", "undecided"
ONE_SEED = "one seed"
Runs = Mapping[str, Sequence[Row]]  # {name of a run: its rows}
LEADING = "Ticket ahead of the reinit"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a measure says about a run, or about several.

    Args:
        name: the question.
        answer: one of the answers above.
        words: a sentence with the numbers.
        rule: what decides, and its source.
        command: measures it, where the answer is UNKNOWN.
    """

    name: str
    answer: str
    words: str
    rule: str
    command: str = ""

    @property
    def kind(self) -> str:
        """Return "good", "bad", "mixed" or "open": how a page marks the answer."""
        if self.answer in (YES, SEEN):
            return "good"
        if self.answer in (NO, NOT_SEEN, COLLAPSED):
            return "bad"
        return "mixed" if self.answer == PARTLY else "open"


# Differences between two settings ------------------------------------------------------------


def matching(runs: Runs, examples: int | None) -> Verdict:
    """Say down to which density pruned networks are as accurate as the dense one (Frankle 2020a).

    Args:
        runs: {round, density, test_accuracy, collapsed} of each, in the order of the rounds.
        examples: the number of test examples; None if unknown.
    """
    name, of_all = "Matching", runs
    runs = {
        run: [row for row in rows if has_collapsed(row) or not _is_unknown(row)]
        for run, rows in of_all.items()
    }
    dense = {run: dense_row(rows) for run, rows in runs.items()}
    sound = {run: row for run, row in dense.items() if row is not None}
    mean = _mean(row["test_accuracy"] for row in sound.values())
    allowed = tolerance(mean, examples)
    rule = rule_of_matching(allowed, examples)
    if not any(row["density"] == 1 for rows in of_all.values() for row in rows):
        return Verdict(name, UNKNOWN, "No round trained a dense network.", rule)
    if not any(row["density"] < 1 for rows in of_all.values() for row in rows):
        return Verdict(name, UNKNOWN, "No round is pruned yet.", rule)
    known = [run for run, rows in runs.items() if any(row["density"] == 1 for row in rows)]
    if not known:
        return Verdict(name, UNKNOWN, "No dense network has a test accuracy.", rule)
    if not sound:
        words = "The dense network has collapsed: nothing is left to match."
        return Verdict(name, COLLAPSED, words, rule)
    left_out = _left_out(
        {run: of_all[run] for run in sound}, "round", _is_unknown, "Without a test accuracy"
    ) + "".join(
        f" The dense network of {run} "
        f"{'has collapsed' if run in known else 'has no test accuracy'}; the run is left out."
        for run in runs
        if run not in sound
    )
    if len(sound) == 1:
        ((run, row),) = sound.items()
        words = _matching_words(runs[run], row, allowed)
        return Verdict(name, ONE_SEED, words + _collapsed_words({run: runs[run]}) + left_out, rule)
    found: dict[int, tuple[float, Interval]] = {}
    for round, of_round in _by_round({run: runs[run] for run in sound}).items():
        if len(of_round) > 1 and next(iter(of_round.values()))["density"] < 1:
            gaps = [
                row["test_accuracy"] - sound[run]["test_accuracy"] for run, row in of_round.items()
            ]
            density = _mean(row["density"] for row in of_round.values())
            found[round] = density, interval(gaps, step=1 / examples if examples else 0)
    if not found:
        words = "No pruned round is there, uncollapsed, for two runs."
        told = _collapsed_words({run: runs[run] for run in sound})
        return Verdict(name, COLLAPSED if told else UNKNOWN, f"{words}{told}{left_out}", rule)
    good = [round for round, (_, of) in found.items() if of.low > -allowed]
    bad = [round for round, (_, of) in found.items() if of.high < -allowed]
    open_rounds = [round for round in found if round not in good + bad]
    parts = []
    if good:
        density, of = found[good[-1]]
        parts.append(
            f"Matches the dense networks' {mean:.2%} in {in_words(good)}, down to density "
            f"{density:.2%}: {_points(of)}"
        )
    if bad:
        density, of = found[bad[-1]]
        parts.append(f"does not match in {in_words(bad)}: {_points(of)} at density {density:.2%}")
    if open_rounds:
        density, of = found[open_rounds[-1]]
        parts.append(
            f"undecided in {in_words(open_rounds)}: {_points(of)} at density {density:.2%}"
        )
    text = "; ".join(parts)
    collapsed = _collapsed_words({run: runs[run] for run in sound})
    words = f"{text[0].upper()}{text[1:]}.{collapsed}{left_out}"
    if len(good) == len(found):
        return Verdict(name, SEEN, words, rule)
    if good or not open_rounds:
        return Verdict(name, PARTLY if good else NOT_SEEN, words, rule)
    intervals = [found[round][1] for round in open_rounds]
    needed = [seeds_to_decide(of, abs(of.mean + allowed)) for of in intervals]
    return Verdict(name, _undecided(needed), words, rule)


def rule_of_matching(allowed: float, examples: int | None) -> str:
    """Return the rule of `matching` in words."""
    return (
        f"Matching: a test accuracy of at least the dense network's, less {_tolerance(allowed)} "
        f"points, {_why(examples)}. One seed decides nothing. Of several, the 95% t interval of "
        "the difference to the dense network of the same run has to lie above that tolerance; "
        "undecided: the interval holds it."
    )


def _matching_words(rows: Sequence[Row], dense: Row, allowed: float) -> str:
    good = matching_rows(rows, allowed)
    pruned = [row for row in rows if row["density"] < 1 and not has_collapsed(row)]
    of_dense = f"the dense network's {dense['test_accuracy']:.2%}"
    if not good:
        best = max(pruned, key=lambda row: row["test_accuracy"], default=None)
        words = f"No pruned network is within {_tolerance(allowed)} points of {of_dense}"
        if best:
            words += f"; the best has {best['test_accuracy']:.2%} at density {best['density']:.2%}"
        return f"{words}."
    words = (
        f"Within {_tolerance(allowed)} points of {of_dense}, or above, down to density "
        f"{good[-1]['density']:.2%} ({good[-1]['test_accuracy']:.2%})"
    )
    bad = [row["round"] for row in pruned if row not in good]
    return words + (f"; not in {in_words(bad)}." if bad else ", in every round.")


def sparsest_match(rows: Sequence[Row], examples: int | None) -> float:
    """Return the lowest density at which a pruned network matches the dense one; NaN if none does.

    It is NaN, too, where the dense network has collapsed.
    """
    if (dense := dense_row(rows)) is None:
        return math.nan
    good = matching_rows(rows, tolerance(dense["test_accuracy"], examples))
    return good[-1]["density"] if good else math.nan


def nearer_than_random(runs: Runs) -> Verdict:
    """Say whether tickets end nearer to the dense network than random masks (Frankle et al. 2019).

    Args:
        runs: {round, mask, measure, degrees, collapsed} of each; mask "ticket" or "random".
            Networks that have collapsed are left out, and named.
    """
    name = "More stable than random masks"
    rule = (
        "More stable: a smaller angle than under a random mask of the same layer densities "
        "(Frankle et al. 2019), by the difference within each seed and its 95% t interval."
    )
    differences: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for rows in runs.values():
        degrees: dict[tuple, list[float]] = {}
        collapsed = {(r["round"], r["measure"]) for r in rows if r.get("collapsed")}
        for row in rows:
            key = row["round"], row["measure"], row["mask"]
            degrees.setdefault(key, []).append(row["degrees"])
        for round, measure, mask in degrees:
            if mask == "ticket" and (round, measure) not in collapsed:
                pair = [degrees.get((round, measure, which)) for which in ("ticket", "random")]
                if pair[1]:
                    both = _mean(pair[0] or ()), _mean(pair[1])
                    differences.setdefault((round, measure), []).append(both)
    left_out = _collapsed_words(runs)
    if not differences:
        words = f"No ticket is measured beside a random mask.{left_out}"
        return Verdict(name, COLLAPSED if left_out else UNKNOWN, words, rule)
    found = {
        key: interval(random - ticket for ticket, random in pairs)
        for key, pairs in differences.items()
    }
    words = "; ".join(
        f"to {measure} in round {round} {_mean(t for t, _ in pairs):.1f} degrees, random "
        f"{_mean(r for _, r in pairs):.1f}"
        + _between(found[round, measure], lambda d: f"{d:+.1f}", "nearer by ")
        for (round, measure), pairs in differences.items()
    )
    words = f"{words[0].upper()}{words[1:]}.{left_out}"
    answers = [_judge(of, 0.0, "degrees") for of in found.values()]
    return Verdict(name, _overall(answers), words, rule)


def leading(rows: Sequence[Row], accuracy: float, examples: int | None, setting: str) -> Verdict:
    """Say whether the ticket is more accurate than the reinit, the control, at all densities.

    Args:
        rows: {seeds, round, density, lead, collapsed}, as statistics.leads gives them.
        accuracy: of the dense networks, from which the margin follows.
        examples: the number of test examples; None if unknown.
        setting: what the ticket and the reinit have in common; "" where all runs have it.
    """
    margin = tolerance(accuracy, examples)
    name = f"{LEADING}, {setting}" if setting else LEADING
    rule = (
        "Lead: the ticket's test accuracy less that of the reinit of the same seed, averaged over "
        "all pruned rounds. The 95% t interval of its mean over seeds decides. Seen: it lies above "
        "zero, and the ticket leads in every round; partly: not in every round. Not seen: it lies "
        f"below zero. Equal: it lies within {_tolerance(margin)} points, {_why(examples)}. "
        "Undecided: it holds zero. One seed decides nothing."
    )
    pruned = [row for row in rows if row["density"] < 1]
    sound = [row for row in pruned if not row["collapsed"]]
    left_out: dict[Seeds, set[int]] = {}
    for row in pruned:
        if row["collapsed"]:
            left_out.setdefault(row["seeds"], set()).add(row["round"])
    called = names_of(row["seeds"] for row in rows)
    told = "".join(
        f" Collapsed and left out: {called[of]} in {in_words(rounds)}."
        for of, rounds in left_out.items()
    )
    if not sound:
        words = f"No seed has a pruned ticket and a pruned reinit to compare.{told}"
        return Verdict(name, COLLAPSED if left_out else UNKNOWN, words, rule)
    by_round = lead_by_round(sound, examples)
    # Of the rounds that all seeds have, so that each seed counts alike.
    seeds = dict.fromkeys(row["seeds"] for row in sound)
    common = [row["round"] for row in by_round if row["seeds"] == len(seeds)]
    if not common:
        words = f"No pruned round is there for all of the {len(seeds)} seeds.{told}"
        return Verdict(name, UNKNOWN, words, rule)
    means = [
        _mean(row["lead"] for row in sound if row["seeds"] == of and row["round"] in common)
        for of in seeds
    ]
    found = interval(means, step=1 / (examples * len(common)) if examples else 0)
    ahead = [row["round"] for row in by_round if row["round"] in common and row["lead"] > 0]
    which = f", {in_words(ahead)}" if 0 < len(ahead) < len(common) else ""
    words = (
        f"{_points(found)} in the mean of {len(common)} pruned rounds; ahead in "
        f"{len(ahead)} of {len(common)}{which}"
    )
    answer = _judge(found, margin, "points")
    if answer == SEEN and len(ahead) < len(common):
        answer = PARTLY
    return Verdict(name, answer, f"{words}.{told}", rule)


def lead_by_round(rows: Sequence[Row], examples: int | None) -> list[Row]:
    """Return {round, density, lead, low, high, seeds} of each pruned round, the mean over seeds.

    `low` and `high` are the ends of the 95% t interval of the lead, NaN for one seed.

    Args:
        rows: as in `leading`; those of networks that have collapsed are left out.
        examples: as in `leading`.
    """
    found = []
    rows = [row for row in rows if row["density"] < 1 and not row["collapsed"]]
    for round in sorted({row["round"] for row in rows}):
        of_round = [row for row in rows if row["round"] == round]
        of = of_leads(of_round, examples)
        found.append(
            {
                "round": round,
                "density": _mean(row["density"] for row in of_round),
                "lead": of.mean,
                "low": of.low,
                "high": of.high,
                "seeds": of.count,
            }
        )
    return found


# Measures against a threshold ----------------------------------------------------------------


def similar(runs: Runs) -> Verdict:
    """Say whether successive rounds find the same solution (Maene et al. 2021, Fig. 4).

    Args:
        runs: {round, to_previous, collapsed} of each: angular distances, a NaN where there is no
            round before.
    """
    rule = (
        f"Similar: an angular distance to the round before below {SIMILAR:g}. Random directions "
        f"have 1, which is 90 degrees.{OVER_SEEDS}"
    )
    rows = {
        run: [row for row in of if row["to_previous"] == row["to_previous"]]
        for run, of in runs.items()
    }
    what = "angular distance to the round before {}"
    return _of_threshold("Similar", rows, ("round", "to_previous"), SIMILAR, what, "{:.2f}", rule)


def connected(runs: Runs) -> Verdict:
    """Say whether successive rounds end in one valley (Maene et al. 2021, Fig. 8).

    Args:
        runs: {from_round, to_round, error_barrier, collapsed} of paths; others than between
            successive rounds are left out.
    """
    rule = (
        f"Connected: an error barrier between successive rounds below {CONNECTED:.0%}, above the "
        f"mean of the ends; so in Frankle et al. 2020a between copies.{OVER_SEEDS}"
    )
    rows = {
        run: [row for row in of if row["to_round"] == row["from_round"] + 1]
        for run, of in runs.items()
    }
    columns = ("to_round", "error_barrier")
    return _of_threshold("Connected", rows, columns, CONNECTED, "error barrier {}", "{:.2%}", rule)


def stable(runs: Runs) -> Verdict:
    """Say whether SGD noise decides where training ends (Frankle et al. 2020a).

    Args:
        runs: {round, instability, collapsed} of each.
    """
    rule = (
        f"Stable: a linear-mode instability below {instability.STABLE:.0%} (Frankle et al. 2020a)."
        f"{OVER_SEEDS}"
    )
    columns = ("round", "instability")
    limit = instability.STABLE
    return _of_threshold("Stable", runs, columns, limit, "instability {}", "{:.2%}", rule)


OVER_SEEDS = (
    " One seed decides nothing. Of several, the 95% t interval of their mean has to lie below."
)


def _of_threshold(
    name: str, runs: Runs, columns: tuple[str, str], limit: float, what: str, form: str, rule: str
) -> Verdict:
    """Return the Verdict on values that are good below a limit.

    Args:
        name, rule: of the Verdict.
        runs: {name of a run: its rows}.
        columns: those of the round and of the value.
        limit: below which a value is good.
        what, form: how the value is called, and formatted.
    """
    round, column = columns
    values: dict[int, list[float]] = {}
    for rows in runs.values():
        for row in rows:
            if not (row.get("collapsed") or math.isnan(row[column])):
                values.setdefault(row[round], []).append(row[column])
    left_out = _collapsed_words(runs, round)
    if not values and left_out:
        return Verdict(name, COLLAPSED, f"There is nothing to compare.{left_out}", rule)
    if not values:
        return Verdict(name, UNKNOWN, "Nothing to compare yet.", rule)
    count = max(map(len, values.values()))
    if fewer := [number for number, of in values.items() if len(of) < count]:
        left_out += f" Not of all {count} seeds and left out: {in_words(fewer)}."
    found = {n: interval(of) for n, of in sorted(values.items()) if n not in fewer}
    ends = [form.format(end(of.mean for of in found.values())) for end in (min, max)]
    words = what.format(ends[0] if ends[0] == ends[1] else " to ".join(ends))
    words = f"{words[0].upper()}{words[1:]} in {in_words(found)}"
    if count == 1:
        below = [number for number, of in found.items() if of.mean < limit]
        which = f" in {in_words(below)}" if 0 < len(below) < len(found) else ""
        side = f"below the threshold{which}" if below else "not below the threshold"
        return Verdict(name, ONE_SEED, f"{words}, one seed: {side}.{left_out}", rule)
    good = [number for number, of in found.items() if of.high < limit]
    bad = [number for number, of in found.items() if of.low >= limit]
    undecided = [number for number in found if number not in good + bad]
    words += f", mean of {count} seeds"
    parts = []
    if good and len(good) < len(found):
        parts.append(f"below the threshold in {in_words(good)}")
    if undecided:
        parts.append(f"undecided in {in_words(undecided)}")
    words += f"{': ' * bool(parts)}{'; '.join(parts)}.{left_out}"
    if len(good) == len(found):
        return Verdict(name, YES, words, rule)
    if good or not undecided:
        return Verdict(name, PARTLY if good else NO, words, rule)
    needed = [seeds_to_decide(found[n], abs(found[n].mean - limit)) for n in undecided]
    return Verdict(name, _undecided(needed), words, rule)


# Words ---------------------------------------------------------------------------------------


def _judge(found: Interval, margin: float, unit: str) -> str:
    """Return the answer that an Interval gives, where differences within `margin` are equal."""
    if found.count < 2:
        return ONE_SEED
    if -margin < found.low and found.high < margin:
        return f"{EQUAL} {_tolerance(margin)} {unit}"
    if found.low > 0:
        return SEEN
    if found.high < 0:
        return NOT_SEEN
    gap = max(abs(found.mean), margin - abs(found.mean))
    return _undecided([seeds_to_decide(found, gap)])


def _overall(answers: Sequence[str]) -> str:
    """Return one answer for several differences: theirs if they agree, else PARTLY or UNDECIDED."""
    if len(set(answers)) == 1:
        return answers[0]
    return PARTLY if SEEN in answers else UNDECIDED


def _undecided(needed: Iterable[int | None]) -> str:
    """Return UNDECIDED with the number of seeds that would decide all that is."""
    counts = list(needed)
    many = f"more than {MOST_SEEDS:,}" if None in counts else f"{max(filter(None, counts)):,}"
    return f"{UNDECIDED} ({many} seeds would decide)"


def _points(found: Interval) -> str:
    """Format an Interval of accuracies in points."""
    return f"{100 * found.mean:+.2f} points" + _between(found, lambda v: f"{100 * v:+.2f}")


def _between(found: Interval, form: Callable[[float], str], what: str = "") -> str:
    """Format the ends of an Interval in brackets; "" for one seed."""
    if found.count < 2:
        return ""
    return f" ({what}{form(found.low)} to {form(found.high)}, {found.count} seeds)"


def _tolerance(allowed: float) -> str:
    return f"{100 * allowed:.2g}"


def _why(examples: int | None) -> str:
    """Say where a tolerance comes from."""
    if not examples:
        return "as the number of test examples is not known"
    return f"one standard deviation of an accuracy on {examples:,} test examples, √(p(1-p)/n)"


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan


def _by_round(runs: Runs) -> dict[int, dict[str, Row]]:
    """Return {round: {run: row}}, without networks that have collapsed."""
    found: dict[int, dict[str, Row]] = {}
    for run, rows in runs.items():
        for row in rows:
            of_round = found.setdefault(row["round"], {})
            if not has_collapsed(row):
                of_round[run] = row
    return found


def _is_unknown(row: Row) -> bool:
    """Return whether a row of metrics.csv has no test accuracy, as of a fit without such data."""
    return math.isnan(row["test_accuracy"])


def _collapsed_words(runs: Runs, column: str = "round") -> str:
    """Return a sentence with the rounds whose networks have collapsed; "" if none has."""
    return _left_out(runs, column, has_collapsed, "Collapsed")


def _left_out(runs: Runs, column: str, which: Callable[[Row], bool], why: str) -> str:
    """Return a sentence about the rounds of the rows that `which` picks; "" if there are none."""
    found = {run: sorted({row[column] for row in rows if which(row)}) for run, rows in runs.items()}
    told = [
        in_words(rounds) + (f" of {run}" if len(runs) > 1 else "")
        for run, rounds in found.items()
        if rounds
    ]
    return f" {why} and left out: {'; '.join(told)}." if told else ""


def in_words(rounds: Iterable[int]) -> str:
    """Format rounds as "round 3" or "rounds 0, 3 to 5"."""
    runs: list[list[int]] = []
    for round in sorted(rounds):
        if runs and round == runs[-1][-1] + 1:
            runs[-1].append(round)
        else:
            runs.append([round])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    many = len(parts) > 1 or len(runs[0]) > 1
    return f"round{'s' * many} {', '.join(parts)}"
