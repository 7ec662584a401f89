"""Pruning thresholds against density (Fig. 6). NumPy and matplotlib only."""

from lottery_tf.analysis import tool
from lottery_tf.analysis.results import replicates
from lottery_tf.output import figures


def report(groups):
    """Writes, draws, logs and prints the thresholds of groups of runs beside one another.

    Args:
        groups: {label: RunDirs}; of replicates mean, min and max. The results go to the first run.
    """
    first = next(iter(groups.values()))[0]
    results = tool.results(first, "thresholds", [first])
    columns = ("round", "density", "threshold")
    curves, table = {}, []
    for label, runs in groups.items():
        tables = [[{name: row[name] for name in columns} for row in run.metrics()] for run in runs]
        rows = replicates(tables, ("round",)) if len(runs) > 1 else tables[0]
        curves[label] = (rows, "threshold")
        table += [{"run": label} | row for row in rows]
    results.write_table(table)
    picture = results.draw(
        figures.against_density,
        curves,
        what="pruning threshold: largest |w| removed after the round",
        pdf=tool.PDF.value,
    )
    last = first.finished_rounds() - 1
    tool.log(first, "thresholds", images={"thresholds": (last, picture)})
    tool.print_table(
        table,
        {
            "run": ("run", "{}"),
            "round": ("round", "{:d}"),
            "density": ("density", "{:.2%}"),
            "threshold": ("threshold", "{:.5f}"),
        },
    )
