"""The measures of runs, by name. To add one, write its file and add its line here.

`lottery_tf/analysis/<name>.py` holds the measure's functions of runs, and a class MEASURE: a
`measure.Measure`, which says what it needs, its columns, pictures and verdict. From this follow its
command (`lottery <name>` and its flags), cache, CSV files, TensorBoard page, section of the report,
and row of docs/guides/analysis.md.

The functions of runs have this in common. `runs` is one run, or {label: replicates}, of which there
are means, min and max. `cache` holds what was computed before (by default all is computed),
`computing` says where and how, as `runs.engine_of` takes it, and `stop_signal` gives the number of
the signal that has come, or 0. Functions that train do so inside the run, or read what is there; a
signal makes them raise signals.Interrupted. All raise InputError where runs, rounds or files are
missing or damaged, or do not go together.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the table alone imports nothing
    from lottery_tf.analysis.measure import Measure

# name: (what it measures, figures of Maene et al. 2021 (P) and Frankle et al. 2019 (S)), in the
# order of reports
MEASURES = {
    "distances": (
        "angular, cosine and Euclidean distances between all rounds and the initialization, or to "
        "the rounds of `--other_run`; `--align=permutation` first permutes units",
        "P 4, 9-11, 15-18, 21",
    ),
    "barriers": (
        "error and loss along the line between rounds; `--align=permutation` first permutes units",
        "P 8, 20, 23",
    ),
    "predictions": (
        "how often rounds, copies or two runs class a test example differently",
        "-",
    ),
    "classes": ("test accuracy of each class, and what pruning costs it", "-"),
    "untrained": ("test accuracy of a round before it trains: W_0 under its mask", "-"),
    "instability": (
        "error barrier between trainings that differ only in their data seed, or in one weight",
        "P 2, Frankle et al. 2020a",
    ),
    "stability": (
        "L2 distance and angle between trainings with and without pruning, and with other data "
        "orders; ticket and random mask",
        "S",
    ),
    "learning": (
        "how far and which way a round moves its weights, signs it keeps, its lead over a reinit",
        "since 2021",
    ),
    "curvature": ("largest eigenvalue of the Hessian at the end of a round", "since 2021"),
    "noise_scale": ("gradient noise scale before, during and after the training of a round", "-"),
    "cyclic": ("a fixed mask, trained as many times as IMP trains", "since 2021"),
    "transplant": (
        "masks of another run on this run's initialization, with units permuted or not",
        "since 2021",
    ),
    "histograms": ("surviving weights of a round", "P 5, 19, 22"),
    "masks": ("overlap of masks, density, dead units and collapsing layers", "-"),
    "pixels": ("pixels and receptive fields of the surviving weights", "since 2021"),
    "thresholds": ("pruning threshold of each round", "P 6"),
}


def find(name: str) -> "type[Measure[Any]]":
    """Return the measure of a name of MEASURES; imports its file."""
    return importlib.import_module(f"{__name__}.{name}").MEASURE


def documentation() -> list[str]:
    """Return the rows that docs/guides/analysis.md has of the measures."""
    return [f"| `{name}` | {about} | {figures} |" for name, (about, figures) in MEASURES.items()]
