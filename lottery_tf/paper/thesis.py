"""The thesis of Maene et al. 2021 in one picture: a ticket leads where its training is stable."""

import math
from collections.abc import Sequence

from lottery_tf.analysis.statistics import leads, names_of, of_leads, seeds_of, test_examples
from lottery_tf.errors import InputError
from lottery_tf.paper.figures import Drawn, Figure
from lottery_tf.paper.groups import Group, called
from lottery_tf.paper.measures import Measures, round_at
from lottery_tf.plots import Row, panels

ACROSS = {
    "instability": ("linear-mode instability (points of %)", True),
    "distance": ("angular distance to the round before", False),
    "barrier": ("error barrier to the round before (points)", True),
}
LEAD = "lead of the ticket over the reinit (points of %)"
KEY = "batch size (*: warm-up)"


def lead_by_stability(
    figure: Figure, groups: Sequence[Group], title: str, measures: Measures
) -> Drawn:
    """The lead of a ticket over the reinit against three measures of stability, as Figs. 1 to 8.

    A point is a setting (flags but the reset and the seeds) at one density. The lead is that of
    statistics.leads, its mean over seeds with min and max and a 95% t interval. "collapsed" is the
    part of the seeds whose networks have: their instability or barrier says nothing.
    """
    tickets = {_setting(of): of for of in groups if of.flags["reset"] == "init"}
    reinits = {_setting(of): of for of in groups if of.control}
    both = {key: (tickets[key], reinits[key]) for key in tickets if key in reinits}
    at = {key: _rounds(figure, ticket) for key, (ticket, _) in both.items()}
    asked = [(both[key][0].runs, list(at[key])) for key in both]
    rows: list[Row] = []
    for key, unstable in zip(both, measures.instability(asked), strict=True):
        ticket, reinit = both[key]
        stable = {row["round"]: row for row in unstable}
        barriers = {row["to_round"]: row for row in measures.barriers(ticket.runs)[0]}
        for number, density in at[key].items():
            lead = _leads(ticket, reinit, number, measures)
            row = dict(key) | {"round": number, "nominal_density": density} | lead
            if number in stable:
                row["instability"] = stable[number]["instability"]
            row |= _to_previous(ticket, number, measures)
            if number in barriers:
                row["barrier"] = barriers[number]["error_barrier"]
            if of_both := [of[number]["collapsed"] for of in (stable, barriers) if number in of]:
                row["collapsed"] = max(of_both)
            rows += [row | {"setting": _call(key)}] if lead else []
    if not rows:
        raise InputError("There is no ticket with a reinit of the same flags and seed to compare.")
    drawn: dict[str, list[Row]] = {}
    for row in rows:
        drawn.setdefault(f"density {row['density']:.1%}", []).append(row)
    picture = panels.scatters(
        drawn, ACROSS, "lead", what=LEAD, name="setting", key=KEY, title=title
    )
    return Drawn({"": rows}, picture)


def _setting(of):
    return tuple((name, value) for name, value in of.flags.items() if name != "reset")


def _call(key):
    """What a point is called: its batch size, a star where it warms up, and what else varies."""
    values = dict(key)
    name = str(values.pop("batch_size", "")) + "*" * bool(values.pop("warmup_epochs", 0))
    return ", ".join(filter(None, [name, *(called(flag, value) for flag, value in values.items())]))


def _rounds(figure, of):
    """{round: density of the figure}, of the first run."""
    found = {round_at(of.runs[0], density): density for density in figure.densities}
    return {number: density for number, density in found.items() if number is not None}


def _leads(ticket, reinit, number, measures):
    """{density, lead, lead_min, lead_max, lead_low, lead_high, seeds} of a round.

    The ends are the least and most of the seeds, and the 95% t interval of their mean.
    """
    tickets, reinits = (
        {seeds_of(run.config()): run.metrics() for run in of.runs} for of in (ticket, reinit)
    )
    rows = [row for row in leads(tickets, reinits) if row["round"] == number]
    called = names_of(tickets)
    for row in rows:
        if row["collapsed"]:
            measures.left_out.append(
                f"{ticket.curve}, {ticket.panel}, {called[row['seeds']]}: a network of round "
                f"{number} has collapsed, so it has no lead."
            )
    sound = [row for row in rows if not row["collapsed"]]
    if not sound:
        return {}
    values = [row["lead"] for row in sound]
    of = of_leads(sound, test_examples(ticket.runs[0]))
    return {
        "round": number,
        "density": sound[0]["density"],
        "lead": of.mean,
        "lead_min": min(values),
        "lead_max": max(values),
        "lead_low": of.low,
        "lead_high": of.high,
        "seeds": of.count,
    }


def _to_previous(of, number, measures):
    """{distance} to the round before, the mean over the runs; nothing of round 0."""
    found = [measures.distances(run, "angular") for run in of.runs if number]
    values = [float(m[number, number - 1]) for m in found if m is not None and number < len(m) - 1]
    return {"distance": math.fsum(values) / len(values)} if values else {}
