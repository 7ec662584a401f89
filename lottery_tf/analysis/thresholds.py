"""Pruning thresholds against density (Fig. 6). NumPy and matplotlib only."""

from lottery_tf.analysis import replicates
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Groups, as_groups, metrics_with
from lottery_tf.plots import Row, figures
from lottery_tf.runs.rundir import RunDir

COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "threshold": ("threshold", "{:.5f}"),
}


def of_rounds(runs: RunDir | Groups) -> list[Row]:
    """Rows of {run, round, density, threshold} of a run, or of {label: runs}.

    Of several runs of a label, as replicates, the means with min and max.
    """
    rows, names = [], list(COLUMNS)[1:]
    for label, group in as_groups(runs).items():
        tables = [
            [{name: row[name] for name in names} for row in metrics_with(run, *names)]
            for run in group
        ]
        of_group = replicates.of_runs(group, tables, ("round",))
        rows += [{"run": label} | row for row in of_group]
    return rows


def report_thresholds(groups: Groups, output: Output) -> list[Row]:
    """Writes, draws and logs the rows of `of_rounds` with the first run, and returns them."""

    def findings(first, rows, _):
        curves = {
            label: (of_label, "threshold")
            for (label,), of_label in replicates.group(rows, ("run",)).items()
        }
        what = "pruning threshold: largest |w| removed after the round"
        figure = figures.against_density(curves, what=what)
        pictures = {"thresholds": (first.finished_rounds() - 1, "", figure)}
        return [Findings("thresholds", {"": rows}, pictures)]

    first = next(iter(groups.values()))[0]
    return report("thresholds", [first], output, lambda *_: of_rounds(groups), findings)
