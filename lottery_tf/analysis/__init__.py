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
        "angular, cosine and Euclidean distance of all rounds and the initialization, or to the "
        "rounds of `--other_run`",
        "P 4, 9-11, 15-18, 21",
    ),
    "barriers": (
        "error and loss on the line between rounds, beside the lead over the dense network; "
        "`--align=permutation` first permutes the units",
        "P 8, 20, 23",
    ),
    "instability": (
        "the barrier between trainings that differ in their data seed alone; `--start=rewind:500`",
        "P 2, Frankle et al. 2020a",
    ),
    "stability": (
        "L2 and angle between trainings with and without pruning, and with other data orders; "
        "ticket and random mask",
        "S",
    ),
    "learning": (
        "how far a round carries its weights and whether the same way as the round before, signs "
        "kept and flipped, the lead over a reinit",
        "since 2021",
    ),
    "curvature": ("the largest eigenvalue of the Hessian at the ends of rounds", "since 2021"),
    "cyclic": (
        "a fixed mask trained for as many cycles of the schedule as IMP had rounds",
        "since 2021",
    ),
    "transplant": (
        "the masks of another run on this one's initialization, their units permuted or not",
        "since 2021",
    ),
    "histograms": ("surviving weights of a round", "P 5, 19, 22"),
    "masks": ("overlap of masks, density, dead units and collapsing layers", "-"),
    "pixels": (
        "surviving weights of each pixel, receptive fields of units, and whether they are local",
        "since 2021",
    ),
    "thresholds": ("the pruning threshold of each round", "P 6"),
}


def find(name: str) -> "type[Measure[Any]]":
    """Return the measure of a name of MEASURES; imports its file."""
    return importlib.import_module(f"{__name__}.{name}").MEASURE


def documentation() -> list[str]:
    """Return the rows that docs/guides/analysis.md has of the measures."""
    return [f"| `{name}` | {about} | {figures} |" for name, (about, figures) in MEASURES.items()]
