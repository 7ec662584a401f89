"""Tables of the papers: {name: function of (figure, groups, title, measures) -> Drawn}."""

from collections.abc import Callable, Sequence

from lottery_tf.analysis import stability as of_stability
from lottery_tf.analysis.replicates import means
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.errors import InputError
from lottery_tf.paper.figures import Drawn, Figure
from lottery_tf.paper.groups import Group
from lottery_tf.paper.measures import Measures, round_at
from lottery_tf.plots import Columns, Row, panels
from lottery_tf.runs.rundir import RunDir

Groups = Sequence[Group]
Draw = Callable[[Figure, Groups, str, Measures], Drawn]
COPIED = ("epochs", "batch_size", "optimizer", "learning_rate", "schedule", "initializer",
          "weight_decay", "rounds")  # fmt: skip
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


def networks(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Networks, their flags, and the accuracy of the dense network and of a ticket, as Table 1."""
    rows = []
    for of in groups:
        flags, (dense, *_) = of.runs[0].config(), of.runs[0].metrics()
        row = of.flags | {name: flags[name] for name in (*COPIED, "prune_fraction")}
        row["weights"] = dense.get("remaining", "")
        rows.append(row | _accuracies(of.runs, figure.densities[0], measures))
    return _drawn(rows, NETWORKS, OF_ROUND, title)


def losses(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """The dense accuracy and what a ticket of one density loses, as the table of Appendix C."""
    rows = [of.flags | _accuracies(of.runs, figure.densities[0], measures) for of in groups]
    columns = {name: (name.replace("_", " "), "{}") for name in figure.panel}
    return _drawn(rows, columns, OF_ROUND, title)


def _accuracies(runs: Sequence[RunDir], density: float, measures: Measures) -> Row:
    """{runs, columns of OF_ROUND}: means with min and max; of runs that are not there yet, less.

    Runs whose dense network or ticket has collapsed are left out, and told.
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
    (mean,) = means(sound, ("run",))
    return {"runs": len(sound)} | {name: mean[name] for name in mean if name != "run"}


def stability(figure: Figure, groups: Groups, title: str, measures: Measures) -> Drawn:
    """Stability to pruning and to data order of tickets and random masks (Frankle et al. 2019)."""
    asked = []
    for of in groups:
        at = [round_at(run, figure.densities[0]) for run in of.runs]
        there = [run for run, number in zip(of.runs, at, strict=True) if number == at[0]]
        asked.append((there, [at[0]]) if at[0] is not None else ([], []))
    rows = [
        of.flags | row
        for of, found in zip(groups, measures.stability(asked), strict=True)
        for row in found
    ]
    if not rows:
        why = measures.left_out or ["No run is that far."]
        raise InputError("\n".join(["There is no stability to show.", *why]))
    columns = {
        **{name: (name.replace("_", " "), "{}") for name in figure.panel},
        **{name: of_stability.COLUMNS[name] for name in ("round", "density", "mask", "measure")},
    }
    ends = {"l2": ("L2", 1, 2), "degrees": ("degrees", 1, 1)}
    return _drawn(rows, columns, ends | {"test_accuracy": ("test acc (%)", 100, 2)}, title)


def _drawn(rows, columns, measured, title):
    """Drawn of rows, those of measured {column: (title, factor, digits)} with least and most."""
    cells = [row | {name: _range(row, name, *how) for name, (_, *how) in measured.items()
                    if name in row} for row in rows]  # fmt: skip
    shown = columns | {name: (head, "{}") for name, (head, *_) in measured.items()}
    return Drawn({"": rows}, panels.table(cells, shown, title=title))


def _range(row, name, factor, digits):
    """A mean, with its least and most where these differ."""
    mean, low, high = (f"{factor * row[name + end]:.{digits}f}" for end in ("", "_min", "_max"))
    return mean if low == high else f"{mean} ({low} to {high})"


TABLES: dict[str, Draw] = {"networks": networks, "losses": losses, "stability": stability}
