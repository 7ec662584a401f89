"""Draws groups of runs as the papers' figures, tables and the thesis behind them.

Each drawing is a function of (figure, groups, title, measures); DRAWINGS names them.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from lottery_tf.analysis import barriers as of_barriers
from lottery_tf.analysis import distances, histograms, instability, replicates, stability
from lottery_tf.analysis.statistics import (
    Seeds,
    has_collapsed,
    leads,
    names_of,
    rows_of_seeds,
    seed_columns,
    seeds_of,
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
        rows += [group.flags | row for row in of_group]
        means = _with_ends(of_group, ("round",))
        drawn.setdefault(group.panel, {})[group.curve] = _curve(group, means)
    columns = {column: LABELS[column] for column in figure.columns}
    if len(columns) > 1:
        return Drawn({"": rows}, panels.measures(drawn[""], columns, title=title))
    ((column, (what, percent)),) = columns.items()
    picture = panels.curves(drawn, column, what=what, percent=percent, title=title)
    return Drawn({"": rows}, picture)


def _metrics(group: Group[RunDir], columns: Sequence[str]) -> list[Row]:
    """Return rows of {seed, round, density, columns, collapsed} of each seed."""
    names = ("round", "density", *columns)
    tables = [[{n: row[n] for n in names} for row in run.metrics()] for run in group.runs]
    return replicates.by_seed(group.runs, tables)


def _with_ends(rows: list[Row], by: Sequence[str]) -> list[Row]:
    """Return the means over the seeds with min and max, of the rows that all have."""
    return replicates.over_runs(rows_of_seeds(rows), by)


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
    measured = measures.trained("instability", asked)
    table = [
        group.flags | {"nominal_density": of[row["round"]]} | row
        for group, of, rows in zip(groups, at, measured, strict=True)
        for row in rows
    ]
    _check_there(table, "instability", measures)
    found = [
        (group, group.flags | {"nominal_density": of[row["round"]]} | row)
        for group, of, rows in zip(groups, at, measured, strict=True)
        for row in replicates.means(rows, ("round",))
    ]
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
    return Drawn({"": table}, picture)


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
        for run, matrix in some:
            rows += _pairs(group.flags | seed_columns(run.config()), matrix, run.metrics(), metric)
    _check_there(rows, "distance", measures)
    top = 1.0 if metric != "euclidean" else max(float(np.nanmax(m)) for m, _ in grid.values())
    picture = panels.matrices(grid, what=distances.LABELS[metric], top=top, title=title)
    return Drawn({"": rows}, picture)


def _pairs(about: Row, matrix: Array, metrics: Sequence[Row], metric: str) -> list[Row]:
    """Return a row for each pair of rounds, and for each round and where it started.

    "collapsed" is 1 where the network of either round has.
    """
    gone = [has_collapsed(row) for row in metrics[: len(matrix) - 1]] + [False]
    places: list[int | str] = [*range(len(matrix) - 1), "init"]
    return [
        about
        | {"round": row, "density": metrics[row]["density"], "to": places[column]}
        | {metric: float(matrix[row, column]), "collapsed": int(gone[row] or gone[column])}
        for row, column in np.argwhere(np.triu(np.ones((len(places),) * 2), 1)).tolist()
    ]


def surviving(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw histograms of the surviving weights of a round, as Figs. 5, 19, 22."""
    (density,) = figure.densities
    series, found = {}, {}
    of_group: dict[int, list[RunDir]] = {}  # {index of the group: its runs of this round}
    for index, group in enumerate(groups):
        first, at = group.runs[0], {run.path: round_at(run, density) for run in group.runs}
        if (number := at[first.path]) is None:
            measures.left_out.append(f"{first.path} has no round at density {density:.1%}.")
            continue
        runs = [run for run in group.runs if at[run.path] == number]
        found[index] = {"round": number, "density": first.metrics()[number]["density"]}
        for run in runs:
            blocks = histograms.survivors([run], number)[histograms.ALL_LAYERS]
            series[str(run.path)] = {histograms.ALL_LAYERS: blocks}
        of_group[index] = runs
    _check_there(series, "round", measures)
    of_runs = histograms.histograms(series, BINS)[histograms.ALL_LAYERS]
    rows: list[Row] = []
    drawn: dict[str, dict[str, tuple[Array, Array]]] = {}
    counted = {}
    for index, runs in of_group.items():
        group = groups[index]
        counted[index] = histograms.together([of_runs[str(run.path)] for run in runs])
        drawn.setdefault(group.panel, {})[group.curve] = counted[index]
        for run in runs:
            about = group.flags | seed_columns(run.config()) | found[index]
            counts, edges = of_runs[str(run.path)]
            rows += [
                about | {"from": float(low), "to": float(high), "count": int(count)}
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
        measured = measures.barriers(group.runs)
        if not measured[0]:
            continue
        for end, rows in zip(tables, measured, strict=True):
            tables[end] += [group.flags | row for row in rows]
        of_rounds = _with_ends(measured[0], of_barriers.BY)
        points = _with_ends(measured[1], (*of_barriers.BY, "alpha"))
        drawn[group.curve] = _curve(group, of_rounds)
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
        about = group.flags | {name: flags[name] for name in (*COPIED, "prune_fraction")}
        about["weights"] = dense.get("remaining", "")
        rows += [about | row for row in _accuracies(group.runs, figure.densities[0], measures)]
    return _drawn(rows, NETWORKS, OF_ROUND, title)


def losses(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Draw the dense accuracy and what a ticket of one density loses, as in Appendix C."""
    rows = [
        group.flags | row
        for group in groups
        for row in _accuracies(group.runs, figure.densities[0], measures)
    ]
    return _drawn(rows, _of_panel(figure), OF_ROUND, title)


def _accuracies(runs: Sequence[RunDir], density: float, measures: Measures) -> list[Row]:
    """Return {seed, collapsed, columns of OF_ROUND} of the runs that are this far, or of all.

    "collapsed" is 1 where the dense network or the ticket has; this is reported.
    """
    rows: list[Row] = []
    for run in runs:
        metrics, round = run.metrics(), round_at(run, density)
        dense, ticket = metrics[0], None if round is None else metrics[round]
        collapsed = has_collapsed(dense) or bool(ticket and has_collapsed(ticket))
        row = seed_columns(run.config()) | {"dense_accuracy": dense["test_accuracy"]}
        row["collapsed"] = int(collapsed)
        if collapsed:
            measures.left_out.append(f"{run.path} has collapsed: it is left out of the means.")
        if ticket:
            change = ticket["test_accuracy"] - dense["test_accuracy"]
            row |= {"accuracy": ticket["test_accuracy"], "change": change}
            row["density"] = ticket["density"]
        rows.append(row)
    return [row for row in rows if "accuracy" in row] or rows


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
    """Draw a table of the means over the seeds.

    Cells of measured {column: (title, factor, digits)} show least and most.
    """
    means = replicates.means(rows, [name for name in columns if name in rows[0]])
    cells = [
        row | {n: _range(row, n, *how) for n, (_, *how) in measured.items() if n in row}
        for row in means
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

    A point is a setting (flags but the reset and the seeds) at one density: means over the seeds.
    The lead is that of statistics.leads. In the table, a row of each seed, what networks that have
    collapsed make meaningless is missing, be it the lead, the instability or the barrier.
    """
    tickets = {_setting(group): group for group in groups if group.flags["reset"] == "init"}
    reinits = {_setting(group): group for group in groups if group.control}
    settings = [setting for setting in tickets if setting in reinits]
    at = {setting: _rounds(figure, tickets[setting]) for setting in settings}
    asked = [(tickets[setting].runs, list(at[setting])) for setting in settings]
    rows: list[Row] = []
    for setting, unstable in zip(settings, measures.trained("instability", asked), strict=True):
        ticket, reinit = tickets[setting], reinits[setting]
        barriers = measures.barriers(ticket.runs)[0]
        for number, density in at[setting].items():
            about = dict(setting) | {"nominal_density": density, "setting": _call(setting)}
            columns = {
                "lead": _leads(ticket, reinit, number, measures),
                "instability": _of_round(unstable, "round", number, "instability"),
                "distance": _to_previous(ticket, number, measures),
                "barrier": _of_round(barriers, "to_round", number, "error_barrier"),
            }
            for run in ticket.runs if columns["lead"] else ():
                config, place = run.config(), run.metrics()[number : number + 1]
                seeds = seed_columns(config)
                found = {n: of.get(seeds_of(seeds), math.nan) for n, of in columns.items()}
                for row in place:
                    of_round = {"round": number, "density": row["density"]}
                    rows.append(about | seeds | of_round | found)
    if not rows:
        raise InputError("There is no ticket with a reinit of the same flags and seed to compare.")
    drawn: dict[str, list[Row]] = {}
    for of_point in replicates.group(rows, (*dict(settings[0]), "round")).values():
        row = {name: of_point[0][name] for name in ("setting", "density")}
        for name in ("lead", *ACROSS):
            if known := [of[name] for of in of_point if not math.isnan(of[name])]:
                row |= {name: math.fsum(known) / len(known)}
                row |= {f"{name}_min": min(known), f"{name}_max": max(known)}
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


def _leads(
    ticket: Group[RunDir], reinit: Group[RunDir], number: int, measures: Measures
) -> dict[Seeds, float]:
    """Return {seeds: lead} of a round; seeds of collapsed networks are left out, and named."""
    tickets, reinits = (
        {seeds_of(seed_columns(run.config())): run.metrics() for run in group.runs}
        for group in (ticket, reinit)
    )
    rows = [row for row in leads(tickets, reinits) if row["round"] == number]
    called = names_of(tickets)
    measures.left_out.extend(
        f"{ticket.curve}, {ticket.panel}, {called[row['seeds']]}: a network of round {number} has "
        "collapsed, so it has no lead."
        for row in rows
        if row["collapsed"]
    )
    return {row["seeds"]: row["lead"] for row in rows if not row["collapsed"]}


def _of_round(rows: Sequence[Row], place: str, number: int, column: str) -> dict[Seeds, float]:
    """Return {seeds: value} of a column at a round, of networks that have not collapsed."""
    at = [row for row in rows if row[place] == number and not row["collapsed"]]
    return {seeds_of(row): row[column] for row in at}


def _to_previous(group: Group[RunDir], number: int, measures: Measures) -> dict[Seeds, float]:
    """Return {seeds: angular distance to the round before}; {} for round 0.

    Seeds in which the network of either round has collapsed are left out.
    """
    found: dict[Seeds, float] = {}
    for run in group.runs if number else ():
        matrix = measures.distances(run, "angular")
        if matrix is not None and number < len(matrix) - 1:
            distance = replicates.without_collapsed(run.metrics(), matrix)[number, number - 1]
            if not math.isnan(distance):
                found[seeds_of(seed_columns(run.config()))] = float(distance)
    return found


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
