"""Says what the numbers of runs mean, beside the rule that decides.

Each function takes the rows of one run or of several, {name of the run: rows}, and returns a
Verdict. The statistics are those of analysis/statistics.py.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from lottery_tf.analysis import instability
from lottery_tf.analysis.replicates import group
from lottery_tf.analysis.statistics import (
    MOST_SEEDS,
    Interval,
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
# 0.94 to 1.02, tickets 0.64 falling to 0.19 (docs/results/index.md). On 100 weights, chance is
# below 0.8 once in a thousand rounds.
SIMILAR = 0.8
CONNECTED = 0.02  # as instability.STABLE, the same measure between other networks
# Answers about a measure that is held against a threshold; of one seed it is ONE_SEED.
YES, PARTLY, NO, UNKNOWN, COLLAPSED = "yes", "partly", "no", "not measured", "collapsed"
# Answers about a difference between two settings; EQUAL is followed by the margin, UNDECIDED by
# the number of seeds that would decide.
SEEN, NOT_SEEN, EQUAL, UNDECIDED = "seen", "not seen", "equal within", "undecided"
ONE_SEED = "one seed"
# {answer: how a page marks it}; the others are "open".
KINDS = {YES: "good", SEEN: "good", PARTLY: "mixed", NO: "bad", NOT_SEEN: "bad", COLLAPSED: "bad"}
Runs = Mapping[str, Sequence[Row]]  # {name of a run: its rows}
LEADING = "Ticket ahead of the reinit"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a measure says about a run, or about several."""

    name: str  # the question
    answer: str  # one of the answers above
    words: str  # a sentence with the numbers
    rule: str  # what decides, and its source
    command: str = ""  # measures it, where the answer is UNKNOWN

    @property
    def kind(self) -> str:
        """Return "good", "bad", "mixed" or "open": how a page marks the answer."""
        return KINDS.get(self.answer, "open")


# Differences between two settings ------------------------------------------------------------


def matching(runs: Runs, examples: int | None) -> Verdict:
    """Say down to which density pruned networks are as accurate as the dense one (Frankle 2020a).

    Args:
        runs: {round, density, test_accuracy, collapsed} of each, in the order of the rounds.
        examples: the number of test examples; None if unknown.
    """
    known = {
        run: [row for row in rows if has_collapsed(row) or not _is_unknown(row)]
        for run, rows in runs.items()
    }
    dense = {run: row for run, rows in known.items() if (row := dense_row(rows))}
    mean = _mean(row["test_accuracy"] for row in dense.values())
    allowed = tolerance(mean, examples)
    say = functools.partial(Verdict, "Matching", rule=rule_of_matching(allowed, examples))
    densities = [row["density"] for rows in runs.values() for row in rows]
    with_dense = [run for run, rows in known.items() if any(row["density"] == 1 for row in rows)]
    if 1 not in densities:
        return say(UNKNOWN, "No round trained a dense network.")
    if min(densities) == 1:
        return say(UNKNOWN, "No round is pruned yet.")
    if not with_dense:
        return say(UNKNOWN, "No dense network has a test accuracy.")
    if not dense:
        return say(COLLAPSED, "The dense network has collapsed: nothing is left to match.")
    sound, everything = ({run: of[run] for run in dense} for of in (known, runs))
    collapsed = _collapsed_words(sound)
    told = collapsed + _left_out(everything, "round", _is_unknown, "Without a test accuracy")
    for run in runs:
        if run not in dense:
            why = "has collapsed" if run in with_dense else "has no test accuracy"
            told += f" The dense network of {run} {why}; the run is left out."
    if len(dense) == 1:
        ((run, rows),) = sound.items()
        return say(ONE_SEED, _matching_words(rows, dense[run], allowed) + told)
    of_density: dict[int, float] = {}
    found: dict[int, Interval] = {}
    uncollapsed = [
        row | {"gap": row["test_accuracy"] - dense[run]["test_accuracy"]}
        for run, rows in sound.items()
        for row in rows
        if not has_collapsed(row) and row["density"] < 1
    ]
    for (round,), of_round in sorted(group(uncollapsed, ("round",)).items()):
        if len(of_round) > 1:
            of_density[round] = _mean(row["density"] for row in of_round)
            gaps = [row["gap"] for row in of_round]
            found[round] = interval(gaps, step=1 / examples if examples else 0)
    if not found:
        words = f"No pruned round is there, uncollapsed, for two runs.{told}"
        return say(COLLAPSED if collapsed else UNKNOWN, words)
    good = [round for round, of in found.items() if of.low > -allowed]
    bad = [round for round, of in found.items() if of.high < -allowed]
    parts = []
    for rounds, words in (
        (good, f"Matches the dense networks' {mean:.2%} in {{}}, down to density {{}}: {{}}"),
        (bad, "does not match in {0}: {2} at density {1}"),
        ([n for n in found if n not in good + bad], "undecided in {0}: {2} at density {1}"),
    ):
        if rounds:
            last = rounds[-1]
            parts.append(
                words.format(in_words(rounds), f"{of_density[last]:.2%}", _points(found[last]))
            )
    answer = _of_rounds(found, good, bad, -allowed, (SEEN, NOT_SEEN))
    return say(answer, f"{_begin('; '.join(parts))}.{told}")


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
    of_dense = f"{_tolerance(allowed)} points of the dense network's {dense['test_accuracy']:.2%}"
    if not good:
        best = max(pruned, key=lambda row: row["test_accuracy"], default=None)
        words = f"No pruned network is within {of_dense}"
        if best:
            words += f"; the best has {best['test_accuracy']:.2%} at density {best['density']:.2%}"
        return f"{words}."
    density, accuracy = good[-1]["density"], good[-1]["test_accuracy"]
    words = f"Within {of_dense}, or above, down to density {density:.2%} ({accuracy:.2%})"
    bad = [row["round"] for row in pruned if row not in good]
    return words + (f"; not in {in_words(bad)}." if bad else ", in every round.")


def sparsest_match(rows: Sequence[Row], examples: int | None) -> float:
    """Return the lowest density at which a pruned network matches the dense one; NaN if none does.

    It is NaN, too, where the dense network has collapsed.
    """
    dense = dense_row(rows)
    good = matching_rows(rows, tolerance(dense["test_accuracy"], examples)) if dense else []
    return good[-1]["density"] if good else math.nan


def nearer_than_random(runs: Runs) -> Verdict:
    """Say whether tickets end nearer to the dense network than random masks (Frankle et al. 2019).

    Rows are {round, mask, measure, degrees, collapsed}; the mask is "ticket" or "random". Networks
    that have collapsed are left out, and named.
    """
    rule = (
        "More stable: a smaller angle than under a random mask of the same layer densities "
        "(Frankle et al. 2019), by the difference within each seed and its 95% t interval."
    )
    say = functools.partial(Verdict, "More stable than random masks", rule=rule)
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}  # degrees (ticket, random)
    for rows in runs.values():
        by_mask = group(rows, ("round", "measure", "mask"))
        for round, measure, mask in by_mask:
            both = [by_mask.get((round, measure, of), []) for of in ("ticket", "random")]
            rows_of_both = [row for of in both for row in of]
            if mask == "ticket" and both[1] and not any(map(has_collapsed, rows_of_both)):
                ticket, random = (_mean(row["degrees"] for row in of) for of in both)
                found.setdefault((round, measure), []).append((ticket, random))
    left_out = _collapsed_words(runs)
    if not found:
        words = f"No ticket is measured beside a random mask.{left_out}"
        return say(COLLAPSED if left_out else UNKNOWN, words)
    parts, answers = [], []
    for (round, measure), pairs in found.items():
        nearer = interval(random - ticket for ticket, random in pairs)
        ticket, random = map(_mean, zip(*pairs, strict=True))
        parts.append(
            f"to {measure} in round {round} {ticket:.1f} degrees, random {random:.1f}"
            + _between(nearer, "{:+.1f}", "nearer by ")
        )
        answers.append(judge(nearer, 0.0, "0 degrees"))
    mixed = PARTLY if SEEN in answers else UNDECIDED
    answer = answers[0] if len(set(answers)) == 1 else mixed
    return say(answer, f"{_begin('; '.join(parts))}.{left_out}")


def leading(rows: Sequence[Row], accuracy: float, examples: int | None, setting: str) -> Verdict:
    """Say whether the ticket is more accurate than the reinit, the control, at all densities.

    Args:
        rows: {seeds, round, density, lead, collapsed}, as statistics.leads gives them.
        accuracy: of the dense networks, from which the margin follows.
        examples: the number of test examples; None if unknown.
        setting: what the ticket and the reinit have in common; "" where all runs have it.
    """
    margin = tolerance(accuracy, examples)
    rule = (
        "Lead: the ticket's test accuracy less that of the reinit of the same seed, averaged over "
        "all pruned rounds. The 95% t interval of its mean over seeds decides. Seen: it lies above "
        "zero, and the ticket leads in every round; partly: not in every round. Not seen: it lies "
        f"below zero. Equal: it lies within {_tolerance(margin)} points, {_why(examples)}. "
        "Undecided: it holds zero. One seed decides nothing."
    )
    say = functools.partial(Verdict, f"{LEADING}, {setting}" if setting else LEADING, rule=rule)
    called = names_of(row["seeds"] for row in rows)
    pruned = [row for row in rows if row["density"] < 1]
    gone = group((row for row in pruned if row["collapsed"]), ("seeds",))
    told = "".join(
        f" Collapsed and left out: {called[of]} in {in_words({row['round'] for row in of_seed})}."
        for (of,), of_seed in gone.items()
    )
    by_round = lead_by_round(rows, examples)
    if not by_round:
        words = f"No seed has a pruned ticket and a pruned reinit to compare.{told}"
        return say(COLLAPSED if told else UNKNOWN, words)
    seeds = group((row for row in pruned if not row["collapsed"]), ("seeds",))
    # Of the rounds that all seeds have, so that each seed counts alike.
    common = {row["round"]: row["lead"] for row in by_round if row["seeds"] == len(seeds)}
    if not common:
        return say(UNKNOWN, f"No pruned round is there for all of the {len(seeds)} seeds.{told}")
    means = [_mean(row["lead"] for row in of if row["round"] in common) for of in seeds.values()]
    found = interval(means, step=1 / (examples * len(common)) if examples else 0)
    ahead = [round for round, lead in common.items() if lead > 0]
    which = f", {in_words(ahead)}" if 0 < len(ahead) < len(common) else ""
    words = (
        f"{_points(found)} in the mean of {len(common)} pruned rounds; ahead in "
        f"{len(ahead)} of {len(common)}{which}.{told}"
    )
    answer = judge(found, margin, f"{_tolerance(margin)} points")
    return say(PARTLY if answer == SEEN and len(ahead) < len(common) else answer, words)


def lead_by_round(rows: Sequence[Row], examples: int | None) -> list[Row]:
    """Return {round, density, lead, low, high, seeds} of each pruned round, the mean over seeds.

    `low` and `high` are the ends of the 95% t interval of the lead, NaN for one seed. Arguments as
    in `leading`; rows of networks that have collapsed are left out.
    """
    sound = [row for row in rows if row["density"] < 1 and not row["collapsed"]]
    found = []
    for (round,), of_round in sorted(group(sound, ("round",)).items()):
        of, density = of_leads(of_round, examples), _mean(row["density"] for row in of_round)
        ends = {"lead": of.mean, "low": of.low, "high": of.high, "seeds": of.count}
        found.append({"round": round, "density": density} | ends)
    return found


# Measures against a threshold ----------------------------------------------------------------


def similar(runs: Runs) -> Verdict:
    """Say whether successive rounds find the same solution (Maene et al. 2021, Fig. 4).

    Rows are {round, to_previous, collapsed}: angular distances, NaN where no round is before.
    """
    rule = (
        f"Similar: an angular distance to the round before below {SIMILAR:g}. Random directions "
        "have 1, which is 90 degrees."
    )
    rows = {
        run: [row for row in of if not math.isnan(row["to_previous"])] for run, of in runs.items()
    }
    what = "angular distance to the round before {}"
    return _of_threshold("Similar", rows, ("round", "to_previous"), SIMILAR, what, "{:.2f}", rule)


def connected(runs: Runs) -> Verdict:
    """Say whether successive rounds end in one valley (Maene et al. 2021, Fig. 8).

    Rows are {from_round, to_round, error_barrier, collapsed} of paths; others than between
    successive rounds are left out.
    """
    rule = (
        f"Connected: an error barrier between successive rounds below {CONNECTED:.0%}, above the "
        "mean of the ends; so in Frankle et al. 2020a between copies."
    )
    rows = {
        run: [row for row in of if row["to_round"] == row["from_round"] + 1]
        for run, of in runs.items()
    }
    columns = ("to_round", "error_barrier")
    return _of_threshold("Connected", rows, columns, CONNECTED, "error barrier {}", "{:.2%}", rule)


def stable(runs: Runs) -> Verdict:
    """Say whether SGD noise decides where training ends (Frankle et al. 2020a).

    Rows are {round, instability, collapsed}.
    """
    limit, columns = instability.STABLE, ("round", "instability")
    rule = f"Stable: a linear-mode instability below {limit:.0%} (Frankle et al. 2020a)."
    return _of_threshold("Stable", runs, columns, limit, "instability {}", "{:.2%}", rule)


def _of_threshold(
    name: str, runs: Runs, columns: tuple[str, str], limit: float, what: str, form: str, rule: str
) -> Verdict:
    """Return the Verdict on values, of which the columns are (round, value), good below a limit."""
    rule += (
        " One seed decides nothing. Of several, the 95% t interval of their mean has to lie below."
    )
    say = functools.partial(Verdict, name, rule=rule)
    round, column = columns
    values: dict[int, list[float]] = {}
    for row in itertools.chain(*runs.values()):
        if not (row.get("collapsed") or math.isnan(row[column])):
            values.setdefault(row[round], []).append(row[column])
    left_out = _collapsed_words(runs, round)
    if not values:
        if left_out:
            return say(COLLAPSED, f"There is nothing to compare.{left_out}")
        return say(UNKNOWN, "Nothing to compare yet.")
    count = max(map(len, values.values()))
    if fewer := [number for number, of in values.items() if len(of) < count]:
        left_out += f" Not of all {count} seeds and left out: {in_words(fewer)}."
    found = {n: interval(of) for n, of in sorted(values.items()) if n not in fewer}
    ends = dict.fromkeys(form.format(end(of.mean for of in found.values())) for end in (min, max))
    words = f"{_begin(what.format(' to '.join(ends)))} in {in_words(found)}"
    if count == 1:
        below = [number for number, of in found.items() if of.mean < limit]
        which = f" in {in_words(below)}" if 0 < len(below) < len(found) else ""
        side = f"below the threshold{which}" if below else "not below the threshold"
        return say(ONE_SEED, f"{words}, one seed: {side}.{left_out}")
    good = [number for number, of in found.items() if of.high < limit]
    bad = [number for number, of in found.items() if of.low >= limit]
    undecided = [number for number in found if number not in good + bad]
    parts = []
    if good and len(good) < len(found):
        parts.append(f"below the threshold in {in_words(good)}")
    if undecided:
        parts.append(f"undecided in {in_words(undecided)}")
    words += f", mean of {count} seeds{': ' * bool(parts)}{'; '.join(parts)}.{left_out}"
    return say(_of_rounds(found, good, bad, limit, (YES, NO)), words)


# Answers and words ---------------------------------------------------------------------------


def judge(found: Interval, margin: float, told: str) -> str:
    """Return the answer that an Interval gives on the claim that a difference is above zero.

    Differences within `margin` are equal; the answer calls it `told`, as "0.2 points".
    """
    if found.count < 2:
        return ONE_SEED
    if -margin < found.low and found.high < margin:
        return f"{EQUAL} {told}"
    if found.low > 0:
        return SEEN
    if found.high < 0:
        return NOT_SEEN
    gap = max(abs(found.mean), margin - abs(found.mean))
    return _undecided([seeds_to_decide(found, gap)])


def _of_rounds(
    found: Mapping[int, Interval],
    good: list[int],
    bad: list[int],
    limit: float,
    answers: tuple[str, str],
) -> str:
    """Return one answer for rounds of which some are good, some bad, and others hold the limit.

    `answers` are those where all are good, and where all are bad.
    """
    if len(good) == len(found):
        return answers[0]
    undecided = [of for round, of in found.items() if round not in good + bad]
    if good or not undecided:
        return PARTLY if good else answers[1]
    return _undecided([seeds_to_decide(of, abs(of.mean - limit)) for of in undecided])


def _undecided(needed: Sequence[int | None]) -> str:
    """Return UNDECIDED with the number of seeds that would decide all that is."""
    many = f"more than {MOST_SEEDS:,}" if None in needed else f"{max(filter(None, needed)):,}"
    return f"{UNDECIDED} ({many} seeds would decide)"


def _begin(words: str) -> str:
    """Return words with a capital letter."""
    return words[0].upper() + words[1:]


def _points(found: Interval) -> str:
    """Format an Interval of accuracies in points."""
    return f"{100 * found.mean:+.2f} points" + _between(found, "{:+.2f}", factor=100)


def _between(found: Interval, form: str, what: str = "", factor: int = 1) -> str:
    """Format the ends of an Interval in brackets; "" for one seed."""
    if found.count < 2:
        return ""
    low, high = (form.format(factor * end) for end in (found.low, found.high))
    return f" ({what}{low} to {high}, {found.count} seeds)"


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


def _is_unknown(row: Row) -> bool:
    """Return whether a row of metrics.csv has no test accuracy, as of a fit without such data."""
    return math.isnan(row["test_accuracy"])


def _collapsed_words(runs: Runs, column: str = "round") -> str:
    """Return a sentence with the rounds whose networks have collapsed; "" if none has."""
    return _left_out(runs, column, has_collapsed, "Collapsed")


def _left_out(runs: Runs, column: str, which: Callable[[Row], bool], why: str) -> str:
    """Return a sentence about the rounds of the rows that `which` picks; "" if there are none."""
    found = {run: {row[column] for row in rows if which(row)} for run, rows in runs.items()}
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
