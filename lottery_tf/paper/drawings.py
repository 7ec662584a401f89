"""Draws groups of runs as the papers' figures, tables and the thesis behind them.

Each drawing is a function of (figure, groups, title, measures); DRAWINGS names them.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from lottery_tf.analysis import distances, histograms, instability, replicates, stability
from lottery_tf.analysis.statistics import (
    has_collapsed,
    leads,
    names_of,
    of_leads,
    seeds_of,
    test_examples,
)
from lottery_tf.errors import InputError
from lottery_tf.paper import figures
from lottery_tf.paper.figures import Drawn, Figure
from lottery_tf.paper.measures import Measures, round_at
from lottery_tf.plots import Columns, Row, panels
from lottery_tf.plots import figures as plots
from lottery_tf.plots.panels import Curve
from lottery_tf.pruning import Array
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps.groups import Group

# {column: (label with unit, whether it is a part of one)}
LABELS = {
    "test_accuracy": ("test accuracy (%)", True),
    "threshold": ("pruning threshold", False),
}
BINS = 240
BEYOND = 1e-3  # the part of a histogram's weights that may lie beyond its axis
PATHS = 3  # drawn: the densest, the sparsest, and one between
Groups = Sequence[Group[RunDir]]
Draw = Callable[[Figure, Groups, str, Measures], Drawn]
Setting = tuple[tuple[str, object], ...]  # (flag, value) of each flag but the reset
COPIED = (
    *("epochs", "batch_size", "optimizer", "learning_rate"),
    *("schedule", "initializer", "weight_decay", "rounds"),
)
# {column: (title, factor, digits)}
OF_ROUND = {
    "dense_accuracy": ("dense acc (%)", 100, 2),
    "accuracy": ("ticket acc (%)", 100, 2),
    "change": ("change (points)", 100, 2),
    "density": ("at density (%)", 100, 1),
}
OF_STABILITY = {
    "l2": ("L2", 1, 2),
    "degrees": ("degrees", 1, 1),
    "test_accuracy": ("test acc (%)", 100, 2),
}
NETWORKS: Columns = {
    "model": ("network", "{}"),
    "dataset": ("dataset", "{}"),
    "weights": ("weights", "{:,.0f}"),
    **{name: (name.replace("_", " "), "{}") for name in COPIED},
    "prune_fraction": ("pruned a round", "{:.0%}"),
}
ACROSS = {
    "instability": ("linear-mode instability (percentage points)", True),
    "distance": ("angular distance to the round before", False),
    "barrier": ("error barrier to the round before (points)", True),
}
LEAD = "lead of the ticket over the reinit (percentage points)"
KEY = "batch size (*: warm-up)"


def curves(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw measures of the rounds against density, as Figs. 1, 3, 6, 7, 12 to 14."""
    rows: list[Row] = []
    drawn: dict[str, dict[str, Curve]] = {}
    for group in groups:
        of_group = _metrics(group, figure.columns)
        rows += [group.flags | {"runs": len(group.runs)} | row for row in of_group]
        drawn.setdefault(group.panel, {})[group.curve] = _curve(group, of_group)
    columns = {column: LABELS[column] for column in figure.columns}
    if len(columns) > 1:
        return Drawn({"": rows}, panels.measures(drawn[""], columns, title=title))
    ((column, (what, percent)),) = columns.items()
    picture = panels.curves(drawn, column, what=what, percent=percent, title=title)
    return Drawn({"": rows}, picture)


def _metrics(group: Group[RunDir], columns: Sequence[str]) -> list[Row]:
    """Return rows of {round, density, columns}: means over runs, with min and max."""
    names = ("round", "density", *columns)
    tables = [[{n: row[n] for n in names} for row in run.metrics()] for run in group.runs]
    if len(tables) == 1:  # with min and max as well, as its file has them
        return replicates.over_runs(tables, ("round",))
    return replicates.of_runs(group.runs, tables, ("round",))


def _curve(group: Group[RunDir], rows: list[Row]) -> Curve:
    return Curve(rows, group.colour, group.control)


def _rounds(figure: Figure, group: Group[RunDir]) -> dict[int, float]:
    """Return {round of the first run: the density of the figure that it is at}."""
    found = {round_at(group.runs[0], density): density for density in figure.densities}
    return {number: density for number, density in found.items() if number is not None}


def unstable(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw linear-mode instability against batch size, a curve for each density, as Fig. 2."""
    (flag,) = figure.panel
    at = [_rounds(figure, group) for group in groups]
    asked = [(group.runs, list(of)) for group, of in zip(groups, at, strict=True)]
    found = [
        (group, group.flags | {"runs": row["runs"], "nominal_density": of[row["round"]]} | row)
        for group, of, rows in zip(groups, at, measures.trained("instability", asked), strict=True)
        for row in rows
    ]
    _check_there(found, "instability", measures)
    drawn: dict[str, dict[str, Curve]] = {}
    for group, row in sorted(found, key=lambda pair: (pair[1][flag], pair[1]["round"])):
        colour = figure.densities.index(row["nominal_density"])
        label = f"round {row['round']}, density {row['density']:.1%}"
        of_curve = drawn.setdefault(group.curve, {})
        of_curve.setdefault(label, Curve([], colour)).rows.append(row)
    picture = panels.curves(
        drawn,
        "instability",
        what="linear-mode instability: error (percentage points)",
        percent=True,
        x=flag,
        line=(instability.STABLE, f"stable below {instability.STABLE:.0%}"),
        title=title,
    )
    return Drawn({"": [row for _, row in found]}, picture)


def matrices(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw distances between all rounds: matrices on one scale, as Figs. 4, 9 to 11."""
    (metric,) = figure.columns
    rows: list[Row] = []
    grid: dict[tuple[str, str], tuple[Array, list[float]]] = {}
    for group in groups:
        measured = [(run, measures.distances(run, metric)) for run in group.runs]
        some = [(run, matrix) for run, matrix in measured if matrix is not None]
        if not some:
            continue
        sound = [
            replicates.without_collapsed(run.metrics(), matrix) if len(some) > 1 else matrix
            for run, matrix in some
        ]
        over = replicates.over_matrices(sound, init=True)
        longest = max(group.runs, key=RunDir.finished_rounds)
        densities = [row["density"] for row in longest.metrics()][: len(over["mean"]) - 1]
        grid[group.curve, group.panel] = over["mean"], densities
        rows += _pairs(group.flags | {"runs": len(some)}, over, densities, metric)
    _check_there(rows, "distance", measures)
    top = 1.0 if metric != "euclidean" else max(float(np.nanmax(m)) for m, _ in grid.values())
    picture = panels.matrices(grid, what=distances.LABELS[metric], top=top, title=title)
    return Drawn({"": rows}, picture)


def _pairs(
    about: Row, over: Mapping[str, Array], densities: Sequence[float], metric: str
) -> list[Row]:
    """Return a row for each pair of rounds, and for each round and where it started."""
    places: list[int | str] = [*range(len(densities)), "init"]
    columns = {metric: "mean", f"{metric}_min": "min", f"{metric}_max": "max"}
    return [
        about
        | {"round": row, "density": densities[row], "to": places[column]}
        | {name: float(over[part][row, column]) for name, part in columns.items()}
        for row, column in np.argwhere(np.triu(np.ones((len(places),) * 2), 1)).tolist()
    ]


def surviving(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw histograms of the surviving weights of a round, as Figs. 5, 19, 22."""
    (density,) = figure.densities
    series, found = {}, {}
    for index, group in enumerate(groups):
        first, at = group.runs[0], {run.path: round_at(run, density) for run in group.runs}
        if (number := at[first.path]) is None:
            measures.left_out.append(f"{first.path} has no round at density {density:.1%}.")
            continue
        runs = [run for run in group.runs if at[run.path] == number]
        blocks = histograms.survivors(runs, number)[histograms.ALL_LAYERS]
        series[str(index)] = {histograms.ALL_LAYERS: blocks}
        found[str(index)] = {"round": number, "density": first.metrics()[number]["density"]}
    _check_there(series, "round", measures)
    counted = histograms.histograms(series, BINS)[histograms.ALL_LAYERS]
    rows: list[Row] = []
    drawn: dict[str, dict[str, tuple[Array, Array]]] = {}
    for key, (counts, edges) in counted.items():
        group = groups[int(key)]
        drawn.setdefault(group.panel, {})[group.curve] = counts, edges
        rows += [
            group.flags | found[key] | {"from": float(low), "to": float(high), "count": int(count)}
            for count, low, high in zip(counts, edges, edges[1:], strict=False)
        ]
    places = sorted(found.values(), key=lambda place: (place["round"], place["density"]))
    rounds = ", ".join(dict.fromkeys(str(place["round"]) for place in places))
    densities = ", ".join(dict.fromkeys(f"{place['density']:.1%}" for place in places))
    title += f"\nafter training round {rounds}, density {densities}"
    most = max(_most(*histogram) for histogram in counted.values())
    return Drawn({"": rows}, plots.histograms(drawn, title=title, most=most))


def _most(counts: Array, edges: Array) -> float:
    """Return the |weight| beyond which few of the weights of a histogram lie."""
    middle = len(counts) // 2
    inside = np.cumsum(counts[middle:] + counts[middle - 1 :: -1])
    return edges[middle + 1 + np.searchsorted(inside, (1 - BEYOND) * inside[-1])]


def barriers(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw the error along three paths, and the barrier of all rounds, as Figs. 8, 20, 23."""
    tables: dict[str, list[Row]] = {"": [], "_paths": []}
    drawn: dict[str, Curve] = {}
    paths: dict[str, list[Row]] = {}
    for group in groups:
        of_rounds, points = measures.barriers(group.runs)
        if not of_rounds:
            continue
        drawn[group.curve] = _curve(group, of_rounds)
        for end, rows in (("", of_rounds), ("_paths", points)):
            tables[end] += [group.flags | row for row in rows]
        if not paths:
            by_path = replicates.group(points, ("from_round", "to_round"))
            spread = sorted({round(i) for i in np.linspace(0, len(of_rounds) - 1, PATHS)})
            for row in (of_rounds[i] for i in spread):
                ends = row["from_round"], row["to_round"]
                paths[f"{ends[0]} to {ends[1]}, density {row['density']:.1%}"] = by_path[ends]
    _check_there(drawn, "barrier", measures)
    return Drawn(tables, panels.barriers(paths, drawn, title=title))


def _check_there(found: Collection[object], what: str, measures: Measures) -> None:
    if not found:
        why = measures.left_out or ["No run is that far."]
        raise InputError("\n".join([f"There is no {what} to draw.", *why]))


# Tables ---------------------------------------------------------------------------------------


def networks(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw networks, their flags, and the accuracies of dense network and ticket, as Table 1."""
    rows = []
    for group in groups:
        flags, (dense, *_) = group.runs[0].config(), group.runs[0].metrics()
        row = group.flags | {name: flags[name] for name in (*COPIED, "prune_fraction")}
        row["weights"] = dense.get("remaining", "")
        rows.append(row | _accuracies(group.runs, figure.densities[0], measures))
    return _drawn(rows, NETWORKS, OF_ROUND, title)


def losses(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw the dense accuracy and what a ticket of one density loses, as in Appendix C."""
    rows = [
        group.flags | _accuracies(group.runs, figure.densities[0], measures) for group in groups
    ]
    return _drawn(rows, _of_panel(figure), OF_ROUND, title)


def _accuracies(runs: Sequence[RunDir], density: float, measures: Measures) -> Row:
    """Return {runs, columns of OF_ROUND}: means with min and max, over the runs that are this far.

    Runs whose dense network or ticket has collapsed are left out, and reported.
    """
    rows = []
    for run in runs:
        metrics, round = run.metrics(), round_at(run, density)
        dense, ticket = metrics[0], None if round is None else metrics[round]
        row = {"run": 0, "dense_accuracy": dense["test_accuracy"]}
        if has_collapsed(dense) or (ticket and has_collapsed(ticket)):
            row["collapsed"] = 1
            measures.left_out.append(f"{run.path} has collapsed: it is left out of the means.")
        if ticket:
            change = ticket["test_accuracy"] - dense["test_accuracy"]
            row |= {"accuracy": ticket["test_accuracy"], "change": change}
            row["density"] = ticket["density"]
        rows.append(row)
    full = [row for row in rows if "accuracy" in row] or rows
    sound = [row for row in full if "collapsed" not in row] or full
    (mean,) = replicates.means(sound, ("run",))
    return {"runs": len(sound)} | {name: mean[name] for name in mean if name != "run"}


def stabilities(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw the stability of tickets and random masks (Frankle et al. 2019)."""
    asked = []
    for group in groups:
        at = [round_at(run, figure.densities[0]) for run in group.runs]
        there = [run for run, number in zip(group.runs, at, strict=True) if number == at[0]]
        asked.append((there, [at[0]]) if at[0] is not None else ([], []))
    rows = [
        group.flags | row
        for group, found in zip(groups, measures.trained("stability", asked), strict=True)
        for row in found
    ]
    _check_there(rows, "stability", measures)
    columns = {name: stability.COLUMNS[name] for name in ("round", "density", "mask", "measure")}
    return _drawn(rows, _of_panel(figure) | columns, OF_STABILITY, title)


def _of_panel(figure: Figure) -> Columns:
    """Return the columns of the flags that part the runs of a table."""
    return {name: (name.replace("_", " "), "{}") for name in figure.panel}


def _drawn(
    rows: list[Row], columns: Columns, measured: Mapping[str, tuple[str, int, int]], title: str
) -> Drawn:
    """Draw a table; cells of measured {column: (title, factor, digits)} show least and most."""
    cells = [
        row | {n: _range(row, n, *how) for n, (_, *how) in measured.items() if n in row}
        for row in rows
    ]
    shown = columns | {name: (head, "{}") for name, (head, *_) in measured.items()}
    return Drawn({"": rows}, panels.table(cells, shown, title=title))


def _range(row: Row, name: str, factor: int, digits: int) -> str:
    """Format a mean, with its least and most where these differ."""
    mean, low, high = (f"{factor * row[name + end]:.{digits}f}" for end in ("", "_min", "_max"))
    return mean if low == high else f"{mean} ({low} to {high})"


# The thesis -----------------------------------------------------------------------------------


def lead_by_stability(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw the lead of a ticket over the reinit against three measures of stability.

    This is the thesis of Maene et al. 2021 in one picture: a ticket leads where training is stable.

    A point is a setting (flags but the reset and the seeds) at one density. The lead is that of
    statistics.leads, its mean over seeds with min and max and a 95% t interval. "collapsed" is the
    part of the seeds whose networks have: their instability or barrier is meaningless.
    """
    tickets = {_setting(group): group for group in groups if group.flags["reset"] == "init"}
    reinits = {_setting(group): group for group in groups if group.control}
    settings = [setting for setting in tickets if setting in reinits]
    at = {setting: _rounds(figure, tickets[setting]) for setting in settings}
    asked = [(tickets[setting].runs, list(at[setting])) for setting in settings]
    rows: list[Row] = []
    for setting, unstable in zip(settings, measures.trained("instability", asked), strict=True):
        ticket, reinit = tickets[setting], reinits[setting]
        stable = {row["round"]: row for row in unstable}
        barriers = {row["to_round"]: row for row in measures.barriers(ticket.runs)[0]}
        for number, density in at[setting].items():
            lead = _leads(ticket, reinit, number, measures)
            row = dict(setting) | {"round": number, "nominal_density": density} | lead
            if number in stable:
                row["instability"] = stable[number]["instability"]
            row |= _to_previous(ticket, number, measures)
            if number in barriers:
                row["barrier"] = barriers[number]["error_barrier"]
            there = [table[number] for table in (stable, barriers) if number in table]
            if there:
                row["collapsed"] = max(of["collapsed"] for of in there)
            rows += [row | {"setting": _call(setting)}] if lead else []
    if not rows:
        raise InputError("There is no ticket with a reinit of the same flags and seed to compare.")
    drawn: dict[str, list[Row]] = {}
    for row in rows:
        drawn.setdefault(f"density {row['density']:.1%}", []).append(row)
    picture = panels.scatters(
        drawn, ACROSS, "lead", what=LEAD, name="setting", key=KEY, title=title
    )
    return Drawn({"": rows}, picture)


def _setting(group: Group[RunDir]) -> Setting:
    return tuple((name, value) for name, value in group.flags.items() if name != "reset")


def _call(setting: Setting) -> str:
    """Name a point: its batch size, a star where it warms up, and what else varies."""
    values = dict(setting)
    name = str(values.pop("batch_size", "")) + "*" * bool(values.pop("warmup_epochs", 0))
    return ", ".join(filter(None, [name, *(figures.called(*item) for item in values.items())]))


def _leads(ticket: Group[RunDir], reinit: Group[RunDir], number: int, measures: Measures) -> Row:
    """Return {round, density, lead, lead_min, lead_max, lead_low, lead_high, seeds} of a round.

    The ends are the least and most of the seeds, and the 95% t interval of their mean.
    """
    tickets, reinits = (
        {seeds_of(run.config()): run.metrics() for run in group.runs} for group in (ticket, reinit)
    )
    rows = [row for row in leads(tickets, reinits) if row["round"] == number]
    called = names_of(tickets)
    measures.left_out.extend(
        f"{ticket.curve}, {ticket.panel}, {called[row['seeds']]}: a network of round {number} has "
        "collapsed, so it has no lead."
        for row in rows
        if row["collapsed"]
    )
    sound = [row for row in rows if not row["collapsed"]]
    if not sound:
        return {}
    interval = of_leads(sound, test_examples(ticket.runs[0]))
    return {
        "round": number,
        "density": sound[0]["density"],
        "lead": interval.mean,
        "lead_min": min(row["lead"] for row in sound),
        "lead_max": max(row["lead"] for row in sound),
        "lead_low": interval.low,
        "lead_high": interval.high,
        "seeds": interval.count,
    }


def _to_previous(group: Group[RunDir], number: int, measures: Measures) -> Row:
    """Return {distance} to the round before, the mean over the runs; {} for round 0."""
    found = [measures.distances(run, "angular") for run in group.runs if number]
    values = [float(m[number, number - 1]) for m in found if m is not None and number < len(m) - 1]
    return {"distance": math.fsum(values) / len(values)} if values else {}


DRAWINGS: dict[str, Draw] = {
    "curves": curves,
    "instability": unstable,
    "matrices": matrices,
    "histograms": surviving,
    "barriers": barriers,
    "thesis": lead_by_stability,
    "networks": networks,
    "losses": losses,
    "stability": stabilities,
}
TABLES = ("networks", "losses", "stability")
