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
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "schedule",
    "initializer",
    "weight_decay",
    "rounds",
)
OF_ROUND = {
    "dense_accuracy": ("dense acc (%)", 100, 2),
    "accuracy": ("ticket acc (%)", 100, 2),
    "change": ("change (points)", 100, 2),
    "density": ("at density (%)", 100, 1),
}
NETWORKS: Columns = {
    "model": ("network", "{}"),
    "dataset": ("dataset", "{}"),
    "weights": ("weights", "{:,.0f}"),
    **{name: (name.replace("_", " "), "{}") for name in COPIED},
    "prune_fraction": ("pruned a round", "{:.0%}"),
}
ACROSS = {
    "instability": ("linear-mode instability (points of %)", True),
    "distance": ("angular distance to the round before", False),
    "barrier": ("error barrier to the round before (points)", True),
}
LEAD = "lead of the ticket over the reinit (points of %)"
KEY = "batch size (*: warm-up)"


def curves(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw measures of the rounds against density, as Figs. 1, 3, 6, 7, 12 to 14."""
    tables = {(group.panel, group.curve): _metrics(group, figure.columns) for group in groups}
    rows = [
        group.flags | {"runs": len(group.runs)} | row
        for group in groups
        for row in tables[group.panel, group.curve]
    ]
    drawn: dict[str, dict[str, Curve]] = {}
    for group in groups:
        drawn.setdefault(group.panel, {})[group.curve] = _curve(
            group, tables[group.panel, group.curve]
        )
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


def unstable(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw linear-mode instability against batch size, a curve for each density, as Fig. 2."""
    (flag,) = figure.panel
    at = [{round_at(group.runs[0], d): d for d in figure.densities} for group in groups]
    rounds = [[number for number in of_group if number is not None] for of_group in at]
    asked = [(group.runs, numbers) for group, numbers in zip(groups, rounds, strict=True)]
    rows: list[Row] = [
        group.flags | {"runs": row["runs"], "nominal_density": nominal[row["round"]]} | row
        for group, nominal, found in zip(groups, at, measures.instability(asked), strict=True)
        for row in found
    ]
    _check_there(rows, "instability", measures)
    drawn: dict[str, dict[str, Curve]] = {}
    named = {tuple(group.flags.items()): group.curve for group in groups}
    for row in sorted(rows, key=lambda row: (row[flag], row["round"])):
        curve = named[tuple((name, row[name]) for name in groups[0].flags)]
        colour = figure.densities.index(row["nominal_density"])
        label = f"round {row['round']}, density {row['density']:.1%}"
        drawn.setdefault(curve, {}).setdefault(label, Curve([], colour)).rows.append(row)
    picture = panels.curves(
        drawn,
        "instability",
        what="linear-mode instability: error (points of %)",
        percent=True,
        x=flag,
        line=(instability.STABLE, f"stable below {instability.STABLE:.0%}"),
        title=title,
    )
    return Drawn({"": rows}, picture)


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
        if len(some) > 1:
            some = [
                (run, replicates.without_collapsed(run.metrics(), matrix)) for run, matrix in some
            ]
        over = replicates.over_matrices([matrix for _, matrix in some], init=True)
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
    rows = []
    for row, column in np.argwhere(np.triu(np.ones((len(places),) * 2), 1)).tolist():
        if row < len(densities):
            cells = {"round": row, "density": densities[row], "to": places[column]}
            for end, part in (("", "mean"), ("_min", "min"), ("_max", "max")):
                cells[metric + end] = float(over[part][row, column])
            rows.append(about | cells)
    return rows


def surviving(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw histograms of the surviving weights of a round, as Figs. 5, 19, 22."""
    (density,) = figure.densities
    series, found = {}, {}
    for index, group in enumerate(groups):
        at = {run.path: round_at(run, density) for run in group.runs}
        if (number := at[group.runs[0].path]) is None:
            measures.left_out.append(f"{group.runs[0].path} has no round at density {density:.1%}.")
            continue
        runs = [run for run in group.runs if at[run.path] == number]
        blocks = histograms.survivors(runs, number)[histograms.ALL_LAYERS]
        series[str(index)] = {histograms.ALL_LAYERS: blocks}
        found[str(index)] = number, group.runs[0].metrics()[number]["density"]
    _check_there(series, "round", measures)
    counted = histograms.histograms(series, BINS)[histograms.ALL_LAYERS]
    rows: list[Row] = []
    drawn: dict[str, dict[str, tuple[Array, Array]]] = {}
    for key, (counts, edges) in counted.items():
        group = groups[int(key)]
        drawn.setdefault(group.panel, {})[group.curve] = counts, edges
        about = group.flags | dict(zip(("round", "density"), found[key], strict=True))
        rows += [
            about | {"from": float(low), "to": float(high), "count": int(count)}
            for count, low, high in zip(counts, edges, edges[1:], strict=False)
        ]
    places = sorted(set(found.values()))
    rounds = ", ".join(dict.fromkeys(str(number) for number, _ in places))
    densities = ", ".join(dict.fromkeys(f"{has:.1%}" for _, has in places))
    title += f"\nafter training round {rounds}, density {densities}"
    most = max(_most(*histogram) for histogram in counted.values())
    picture = plots.histograms(drawn, title=title, most=most)
    return Drawn({"": rows}, picture)


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
                start, end_round = row["from_round"], row["to_round"]
                label = f"{start} to {end_round}, density {row['density']:.1%}"
                paths[label] = by_path[start, end_round]
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
    columns = {name: (name.replace("_", " "), "{}") for name in figure.panel}
    return _drawn(rows, columns, OF_ROUND, title)


def _accuracies(runs: Sequence[RunDir], density: float, measures: Measures) -> Row:
    """Return {runs, columns of OF_ROUND}: means with min and max, over the runs that are this far.

    Runs whose dense network or ticket has collapsed are left out, and reported.
    """
    rows = []
    for run in runs:
        metrics, round = run.metrics(), round_at(run, density)
        row = {"run": 0, "dense_accuracy": metrics[0]["test_accuracy"]}
        of_both = [metrics[number] for number in (0, round) if number is not None]
        if any(map(has_collapsed, of_both)):
            row["collapsed"] = 1
            measures.left_out.append(f"{run.path} has collapsed: it is left out of the means.")
        if round is not None:
            row |= {"accuracy": metrics[round]["test_accuracy"]}
            row |= {"change": row["accuracy"] - row["dense_accuracy"]}
            row |= {"density": metrics[round]["density"]}
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
        for group, found in zip(groups, measures.stability(asked), strict=True)
        for row in found
    ]
    _check_there(rows, "stability", measures)
    columns = {
        **{name: (name.replace("_", " "), "{}") for name in figure.panel},
        **{name: stability.COLUMNS[name] for name in ("round", "density", "mask", "measure")},
    }
    ends = {"l2": ("L2", 1, 2), "degrees": ("degrees", 1, 1)}
    return _drawn(rows, columns, ends | {"test_accuracy": ("test acc (%)", 100, 2)}, title)


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
            both_tables = (stable, barriers)
            if parts := [table[number]["collapsed"] for table in both_tables if number in table]:
                row["collapsed"] = max(parts)
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


def _setting(group: Group[RunDir]) -> Setting:
    return tuple((name, value) for name, value in group.flags.items() if name != "reset")


def _call(setting: Setting) -> str:
    """Name a point: its batch size, a star where it warms up, and what else varies."""
    values = dict(setting)
    name = str(values.pop("batch_size", "")) + "*" * bool(values.pop("warmup_epochs", 0))
    return ", ".join(filter(None, [name, *(figures.called(*item) for item in values.items())]))


def _rounds(figure: Figure, group: Group[RunDir]) -> dict[int, float]:
    """Return {round: density of the figure} of the first run."""
    found = {round_at(group.runs[0], density): density for density in figure.densities}
    return {number: density for number, density in found.items() if number is not None}


def _leads(ticket: Group[RunDir], reinit: Group[RunDir], number: int, measures: Measures) -> Row:
    """Return {round, density, lead, lead_min, lead_max, lead_low, lead_high, seeds} of a round.

    The ends are the least and most of the seeds, and the 95% t interval of their mean.
    """
    tickets, reinits = (
        {seeds_of(run.config()): run.metrics() for run in group.runs} for group in (ticket, reinit)
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
    interval = of_leads(sound, test_examples(ticket.runs[0]))
    return {
        "round": number,
        "density": sound[0]["density"],
        "lead": interval.mean,
        "lead_min": min(values),
        "lead_max": max(values),
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
