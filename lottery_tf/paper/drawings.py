"""How groups of runs are drawn: {name: function of (figure, groups, title, measures) -> Drawn}."""

from collections.abc import Callable, Sequence

import numpy as np

from lottery_tf.analysis import distances, histograms, instability
from lottery_tf.analysis.replicates import (
    group,
    of_runs,
    over_matrices,
    over_runs,
    without_collapsed,
)
from lottery_tf.errors import InputError
from lottery_tf.paper import figure_tables
from lottery_tf.paper.figures import Drawn, Figure
from lottery_tf.paper.groups import Group
from lottery_tf.paper.measures import Measures, round_at
from lottery_tf.paper.thesis import lead_by_stability
from lottery_tf.plots import Row, figures, panels
from lottery_tf.plots.panels import Curve
from lottery_tf.pruning import Array
from lottery_tf.runs.rundir import RunDir

# {column: (label with unit, whether it is a part of one)}
LABELS = {
    "test_accuracy": ("test accuracy (%)", True),
    "threshold": ("pruning threshold", False),
}
BINS = 240
BEYOND = 1e-3  # the part of a histogram's weights that may lie beyond its axis
PATHS = 3  # drawn: the densest, the sparsest, and one between
Groups = Sequence[Group]


def curves(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Measures of the rounds against density, as Figs. 1, 3, 6, 7, 12 to 14."""
    tables = {(of.panel, of.curve): _metrics(of, figure.columns) for of in groups}
    rows = [
        of.flags | {"runs": len(of.runs)} | row
        for of in groups
        for row in tables[of.panel, of.curve]
    ]
    drawn: dict[str, dict[str, Curve]] = {}
    for of in groups:
        drawn.setdefault(of.panel, {})[of.curve] = _curve(of, tables[of.panel, of.curve])
    columns = {column: LABELS[column] for column in figure.columns}
    if len(columns) > 1:
        return Drawn({"": rows}, panels.measures(drawn[""], columns, title=title))
    ((column, (what, percent)),) = columns.items()
    picture = panels.curves(drawn, column, what=what, percent=percent, title=title)
    return Drawn({"": rows}, picture)


def _metrics(of, columns):
    """Rows of {round, density, columns} of a group, means over its runs with min and max."""
    names = ("round", "density", *columns)
    tables = [[{n: row[n] for n in names} for row in run.metrics()] for run in of.runs]
    if len(tables) == 1:  # with min and max as well, as its file has them
        return over_runs(tables, ("round",))
    return of_runs(of.runs, tables, ("round",))


def _curve(of, rows):
    return Curve(rows, of.colour, of.control)


def unstable(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Linear-mode instability against batch size, a curve for each density, as Fig. 2."""
    (flag,) = figure.panel
    at = [{round_at(of.runs[0], d): d for d in figure.densities} for of in groups]
    rounds = [[number for number in of_group if number is not None] for of_group in at]
    asked = [(of.runs, numbers) for of, numbers in zip(groups, rounds, strict=True)]
    rows: list[Row] = [
        of.flags | {"runs": row["runs"], "nominal_density": nominal[row["round"]]} | row
        for of, nominal, found in zip(groups, at, measures.instability(asked), strict=True)
        for row in found
    ]
    _check_there(rows, "instability", measures)
    drawn: dict[str, dict[str, Curve]] = {}
    named = {tuple(of.flags.items()): of.curve for of in groups}
    for row in sorted(rows, key=lambda row: (row[flag], row["round"])):
        curve = named[tuple((name, row[name]) for name in groups[0].flags)]
        colour = figure.densities.index(row["nominal_density"])
        label = f"round {row['round']}, density {row['density']:.1%}"
        drawn.setdefault(curve, {}).setdefault(label, Curve([], colour)).rows.append(row)
    picture = panels.curves(
        drawn, "instability", what="linear-mode instability: error (points of %)", percent=True,
        x=flag, line=(instability.STABLE, f"stable below {instability.STABLE:.0%}"), title=title,
    )  # fmt: skip
    return Drawn({"": rows}, picture)


def matrices(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Distances between all rounds, matrices side by side on one scale, as Figs. 4, 9 to 11."""
    (metric,) = figure.columns
    rows: list[Row] = []
    grid: dict[tuple[str, str], tuple[Array, list[float]]] = {}
    for of in groups:
        measured = [(run, measures.distances(run, metric)) for run in of.runs]
        some = [(run, matrix) for run, matrix in measured if matrix is not None]
        if not some:
            continue
        if len(some) > 1:
            some = [(run, without_collapsed(run.metrics(), matrix)) for run, matrix in some]
        over = over_matrices([matrix for _, matrix in some], init=True)
        longest = max(of.runs, key=RunDir.finished_rounds)
        densities = [row["density"] for row in longest.metrics()][: len(over["mean"]) - 1]
        grid[of.curve, of.panel] = over["mean"], densities
        rows += _pairs(of.flags | {"runs": len(some)}, over, densities, metric)
    _check_there(rows, "distance", measures)
    top = 1.0 if metric != "euclidean" else max(float(np.nanmax(m)) for m, _ in grid.values())
    picture = panels.matrices(grid, what=distances.LABELS[metric], top=top, title=title)
    return Drawn({"": rows}, picture)


def _pairs(about, over, densities, metric):
    """A row for each pair of rounds, and for each round and where it started."""
    places = [*range(len(densities)), "init"]
    return [
        about
        | {"round": row, "density": densities[row], "to": places[column]}
        | {metric + end: float(over[part][row, column])
           for end, part in (("", "mean"), ("_min", "min"), ("_max", "max"))}
        for row, column in zip(*np.triu_indices(len(places), 1), strict=True)
        if row < len(densities)
    ]  # fmt: skip


def surviving(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Histograms of the surviving weights of a round, as Figs. 5, 19, 22."""
    (density,) = figure.densities
    series, found = {}, {}
    for index, of in enumerate(groups):
        at = {run.path: round_at(run, density) for run in of.runs}
        if (number := at[of.runs[0].path]) is None:
            measures.left_out.append(f"{of.runs[0].path} has no round at density {density:.1%}.")
            continue
        runs = [run for run in of.runs if at[run.path] == number]
        blocks = histograms.survivors(runs, number)[histograms.ALL_LAYERS]
        series[str(index)] = {histograms.ALL_LAYERS: blocks}
        found[str(index)] = number, of.runs[0].metrics()[number]["density"]
    _check_there(series, "round", measures)
    counted = histograms.histograms(series, BINS)[histograms.ALL_LAYERS]
    rows: list[Row] = []
    drawn: dict[str, dict[str, tuple[Array, Array]]] = {}
    for key, (counts, edges) in counted.items():
        of = groups[int(key)]
        drawn.setdefault(of.panel, {})[of.curve] = counts, edges
        about = of.flags | dict(zip(("round", "density"), found[key], strict=True))
        rows += [
            about | {"from": float(low), "to": float(high), "count": int(count)}
            for count, low, high in zip(counts, edges, edges[1:], strict=False)
        ]
    places = sorted(set(found.values()))
    rounds = ", ".join(dict.fromkeys(str(number) for number, _ in places))
    densities = ", ".join(dict.fromkeys(f"{has:.1%}" for _, has in places))
    title += f"\nafter training round {rounds}, density {densities}"
    most = max(_most(*histogram) for histogram in counted.values())
    picture = figures.histograms(drawn, title=title, most=most)
    return Drawn({"": rows}, picture)


def _most(counts, edges):
    """The |weight| beyond which few of the weights of a histogram lie."""
    middle = len(counts) // 2
    inside = np.cumsum(counts[middle:] + counts[middle - 1 :: -1])
    return edges[middle + 1 + np.searchsorted(inside, (1 - BEYOND) * inside[-1])]


def barriers(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """The error along three paths, and the barrier of all rounds, as Figs. 8, 20, 23."""
    tables: dict[str, list[Row]] = {"": [], "_paths": []}
    drawn: dict[str, Curve] = {}
    paths: dict[str, list[Row]] = {}
    for of in groups:
        of_rounds, points = measures.barriers(of.runs)
        if not of_rounds:
            continue
        drawn[of.curve] = _curve(of, of_rounds)
        for end, rows in (("", of_rounds), ("_paths", points)):
            tables[end] += [of.flags | row for row in rows]
        if not paths:
            by_path = group(points, ("from_round", "to_round"))
            spread = sorted({round(i) for i in np.linspace(0, len(of_rounds) - 1, PATHS)})
            paths = {
                f"{row['from_round']} to {row['to_round']}, density {row['density']:.1%}":
                by_path[row["from_round"], row["to_round"]]
                for row in (of_rounds[i] for i in spread)
            }  # fmt: skip
    _check_there(drawn, "barrier", measures)
    return Drawn(tables, panels.barriers(paths, drawn, title=title))


def _check_there(found, what, measures):
    if not found:
        why = measures.left_out or ["No run is that far."]
        raise InputError("\n".join([f"There is no {what} to draw.", *why]))


DRAWINGS: dict[str, Callable[[Figure, Groups, str, Measures], Drawn]] = {
    "curves": curves,
    "instability": unstable,
    "matrices": matrices,
    "histograms": surviving,
    "barriers": barriers,
    "thesis": lead_by_stability,
    **figure_tables.TABLES,
}
