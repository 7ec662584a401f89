"""Pictures from the files of runs. matplotlib, without a display."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import matplotlib.ticker

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"


def accuracy_against_density(runs, path, *, title=""):
    """Draws test accuracy (%) against density (%, logarithmic, falling), as Fig. 1 of the paper.

    Args:
        runs: {label: one {column: number} per round, as RunDir.metrics gives them}.
        path: file to write; its ending gives the format.
        title: above the axes.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for index, (label, rows) in enumerate(runs.items()):
        axes.plot(
            [100 * row["density"] for row in rows],
            [100 * row["test_accuracy"] for row in rows],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            label=label,
        )
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_xlabel("density: remaining / prunable weights (%)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
