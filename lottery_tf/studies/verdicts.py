"""What the numbers of a run say, in words, beside the thresholds that they are held against.

Each function takes rows, of one run or means over replicates, and gives a Verdict.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from lottery_tf.analysis import instability
from lottery_tf.output import Row

# A point that 10,000 test images do not tell from the dense network: the standard error of an
# accuracy of 97% on them is 0.17 points.
MATCHING = 0.002
RULE_OF_MATCHING = (
    "Matching: a test accuracy of at least the dense network's, less a tolerance of "
    f"{100 * MATCHING:g} points."
)
# Random directions are orthogonal: 1, give or take 2 / (pi sqrt(weights)). Reinits of LeNet have
# 0.94 to 1.02, tickets 0.64 falling to 0.19 (docs/analysis.md). On 100 weights, chance is below
# 0.8 once in a thousand rounds.
SIMILAR = 0.8
CONNECTED = 0.02  # as instability.STABLE, of which it is the same measure between other networks
YES, PARTLY, NO, UNKNOWN, COLLAPSED = "yes", "partly", "no", "not measured", "collapsed"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a measure says of a run.

    Args:
        name: what is asked.
        answer: YES, PARTLY, NO, UNKNOWN, or COLLAPSED.
        words: a sentence with the numbers.
        rule: the threshold, and its source.
        command: what measures it, where it is UNKNOWN.
    """

    name: str
    answer: str
    words: str
    rule: str
    command: str = ""


def matching(rows: Sequence[Row]) -> Verdict:
    """Down to which density pruned networks are as accurate as the dense one (Frankle 2020a).

    Args:
        rows: {round, density, test_accuracy, collapsed}, in the order of the rounds.
    """
    rule = RULE_OF_MATCHING
    dense = next((row for row in rows if row["density"] == 1), None)
    pruned = [row for row in rows if row["density"] < 1]
    if dense is None or not pruned:
        missing = "No round trained a dense network" if dense is None else "No round is pruned yet"
        return Verdict("Matching", UNKNOWN, f"{missing}.", rule)
    if part := dense.get("collapsed"):
        which = "The dense network" if part == 1 else "The dense network of some runs"
        words = f"{which} has collapsed: a test accuracy of {dense['test_accuracy']:.2%} is no mark"
        return Verdict("Matching", COLLAPSED, f"{words} to match.", rule)
    good = _matching_rows(rows)
    of_dense = f"the dense network's {dense['test_accuracy']:.2%}"
    if not good:
        best = max(pruned, key=lambda row: row["test_accuracy"])
        words = (
            f"No pruned network matches {of_dense}; the best has {best['test_accuracy']:.2%} at "
            f"density {best['density']:.2%}."
        )
        return Verdict("Matching", NO, words, rule)
    words = (
        f"Matches {of_dense} down to density {good[-1]['density']:.2%} "
        f"({good[-1]['test_accuracy']:.2%})"
    )
    bad = [row["round"] for row in pruned if row not in good]
    words += f"; not in {in_words(bad)}." if bad else ", in every round."
    return Verdict("Matching", PARTLY if bad else YES, words, rule)


def sparsest_match(rows: Sequence[Row]) -> float:
    """The lowest density at which a pruned network matches the dense one; NaN without such.

    A dense network that has collapsed is no mark to match: that is NaN, too.
    """
    good = _matching_rows(rows)
    return good[-1]["density"] if good else math.nan


def _matching_rows(rows):
    """The rows of pruned networks that match the dense one, as `matching` takes them."""
    dense = next((row for row in rows if row["density"] == 1 and not row.get("collapsed")), None)
    bar = dense["test_accuracy"] - MATCHING if dense else math.inf
    return [row for row in rows if row["density"] < 1 and row["test_accuracy"] >= bar]


def similar(rows: Sequence[Row]) -> Verdict:
    """Whether successive rounds find the same solution (Maene et al. 2021, Fig. 4).

    Args:
        rows: {round, to_previous}: angular distances, a NaN where there is no round before.
    """
    rule = (
        f"Similar: an angular distance to the round before below {SIMILAR:g}. Random directions "
        "have 1, which is 90 degrees."
    )
    values = {
        row["round"]: row["to_previous"] for row in rows if row["to_previous"] == row["to_previous"]
    }
    unit = "angular distance to the round before"
    return _of_values("Similar", values, SIMILAR, f"{unit} {{}}", "{:.2f}", rule)


def connected(rows: Sequence[Row]) -> Verdict:
    """Whether successive rounds end in one valley (Maene et al. 2021, Fig. 8).

    Args:
        rows: {from_round, to_round, error_barrier, collapsed} of paths; others than between
            successive rounds are left out.
    """
    rule = (
        f"Connected: an error barrier between successive rounds below {CONNECTED:.0%}, above the "
        "mean of the ends; so in Frankle et al. 2020a between copies."
    )
    rows = [row for row in rows if row["to_round"] == row["from_round"] + 1]
    return _of_barriers(
        "Connected", rows, ("to_round", "error_barrier"), CONNECTED, "error barrier {}", rule
    )


def stable(rows: Sequence[Row]) -> Verdict:
    """Whether SGD noise decides where training ends (Frankle et al. 2020a).

    Args:
        rows: {round, instability, collapsed}.
    """
    rule = (
        f"Stable: a linear-mode instability below {instability.STABLE:.0%} (Frankle et al. 2020a)."
    )
    columns = ("round", "instability")
    return _of_barriers("Stable", rows, columns, instability.STABLE, "instability {}", rule)


def nearer_than_random(rows: Sequence[Row]) -> Verdict:
    """Whether tickets end nearer to the dense network than random masks (Frankle et al. 2019).

    Args:
        rows: {round, mask, measure, degrees, collapsed}; mask "ticket" or "random". Networks that
            have collapsed are left out, and said.
    """
    name = "More stable than random masks"
    rule = (
        "More stable: a smaller angle than under a random mask of the same layer densities "
        "(Frankle et al. 2019)."
    )
    collapsed = sorted({row["round"] for row in rows if row.get("collapsed")})
    rows = [row for row in rows if not row.get("collapsed")]
    degrees = {(row["round"], row["measure"], row["mask"]): row["degrees"] for row in rows}
    pairs = {
        (round, measure): (value, degrees[round, measure, "random"])
        for (round, measure, mask), value in degrees.items()
        if mask == "ticket" and (round, measure, "random") in degrees
    }
    of_collapsed = f" Collapsed: {in_words(collapsed)}." if collapsed else ""
    if not pairs:
        answer = COLLAPSED if collapsed else UNKNOWN
        words = f"No ticket is measured beside a random mask.{of_collapsed}"
        return Verdict(name, answer, words, rule)
    words = "; ".join(
        f"to {measure} in round {round} {ticket:.1f} degrees, random {random:.1f}"
        for (round, measure), (ticket, random) in pairs.items()
    )
    smaller = [ticket < random for ticket, random in pairs.values()]
    words = f"{words[0].upper()}{words[1:]}.{of_collapsed}"
    return Verdict(name, _answer(smaller), words, rule)


def leading(leads: Mapping[str, float], where: str) -> Verdict:
    """Whether the ticket is more accurate than the reinit, the control.

    Args:
        leads: {setting: test accuracy of the ticket, less that of the reinit}.
        where: the density, in words.
    """
    rule = f"Ahead: more accurate than the reinit by more than {100 * MATCHING:g} points."
    good = [setting for setting, lead in leads.items() if lead > MATCHING]
    low, high = (f"{100 * end(leads.values()):+.2f}" for end in (min, max))
    words = f"{low if low == high else f'{low} to {high}'} points {where}"
    answer = _answer([setting in good for setting in leads])
    words += f": ahead with {'; '.join(good)}." if answer == PARTLY else "."
    return Verdict("Ticket ahead of the reinit", answer, words, rule)


def in_words(rounds: Iterable[int]) -> str:
    """Rounds as "round 3", "rounds 0, 3 to 5"."""
    runs: list[list[int]] = []
    for round in sorted(rounds):
        if runs and round == runs[-1][-1] + 1:
            runs[-1].append(round)
        else:
            runs.append([round])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    many = len(parts) > 1 or len(runs[0]) > 1
    return f"round{'s' * many} {', '.join(parts)}"


def _of_barriers(name, rows, columns, limit, what, rule):
    """The Verdict of rows of barriers, without those of networks that have collapsed."""
    round, column = columns
    values = {row[round]: row[column] for row in rows if not row["collapsed"]}
    collapsed = [row[round] for row in rows if row["collapsed"]]
    if collapsed and not values:
        words = f"The networks of {in_words(collapsed)} have collapsed: nothing to compare."
        return Verdict(name, COLLAPSED, words, rule)
    verdict = _of_values(name, values, limit, what, "{:.2%}", rule)
    if collapsed:
        words = f"{verdict.words} Collapsed: {in_words(collapsed)}."
        return dataclasses.replace(verdict, words=words)
    return verdict


def _of_values(name, values, limit, what, form, rule):
    """The Verdict of {round: value}: values below the limit are good."""
    if not values:
        return Verdict(name, UNKNOWN, "Nothing to compare yet.", rule)
    low, high = (form.format(end(values.values())) for end in (min, max))
    words = what.format(low if low == high else f"{low} to {high}")
    words = f"{words[0].upper()}{words[1:]} in {in_words(values)}"
    good = [round for round, value in values.items() if value < limit]
    answer = _answer([round in good for round in values])
    words += f": below the threshold in {in_words(good)}." if answer == PARTLY else "."
    return Verdict(name, answer, words, rule)


def _answer(good):
    return YES if all(good) else PARTLY if any(good) else NO
