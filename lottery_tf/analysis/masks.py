"""What masks have in common, and what they leave of each layer. NumPy and matplotlib only.

Only where a file does not tell one kind of convolution from another (see `kernel_kinds`)
is the network built, which imports TensorFlow; its dataset is then looked for in `data_dir`, by
default the run's.
"""

from collections.abc import Sequence

import numpy as np

from lottery_tf.analysis import loading
from lottery_tf.analysis.replicates import (
    group,
    labelled,
    of_runs,
    over_matrices,
    without_collapsed,
)
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Runs, check_same_experiment
from lottery_tf.models import MODELS
from lottery_tf.plots import Columns, Row, figures
from lottery_tf.pruning import Array, Masks
from lottery_tf.pruning.dead_units import DEPTHWISE, TRANSPOSED, layers
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

LAYER_COLUMNS = {
    "layer": ("layer", "{}"),
    "density": ("density", "{:.2%}"),
    "remaining": ("weights", "{:,d}"),
    "outputs": ("outputs", "{:,d}"),
    "dead_outputs": ("dead", "{:,d}"),
    "unused_inputs": ("unused inputs", "{:,d}"),
    "state": ("state", "{}"),
}
OVERLAP = "Jaccard overlap of masks: in both / in one or both"
DRAWN = {
    "density": ("density of the layer (%)", True),
    "alive": ("outputs with a weight into them (%)", False),
}


def of_layers(run: RunDir, *, data_dir: str | None = None) -> list[Row]:
    """Rows of {round, network_density} and what `layers` gives, of each round and layer."""
    return _layers_of(_masks(run), kernel_kinds(run, data_dir=data_dir))


def _layers_of(masks, kinds):
    return [
        {"round": round, "network_density": density(mask)} | row
        for round, (mask, before) in enumerate(zip(masks, [None, *masks], strict=False))
        for row in layers(mask, before, kinds=kinds)
    ]


def overlaps(run: RunDir, other: RunDir | None = None) -> list[Row]:
    """Rows of {round, 0, 1, …}: the Jaccard overlap of a run's masks with those of `other`."""
    check_same_experiment([run, other])
    return labelled(_overlaps(_masks(run), other))


def jaccard(row_masks: Sequence[Masks], column_masks: Sequence[Masks]) -> Array:
    """The Jaccard overlap of each of some masks with each of others, (rows, columns) in [0, 1].

    Weights alive in both / weights alive in one or both; 1 where both are empty.
    """
    both = np.zeros((len(row_masks), len(column_masks)))
    row_sizes, column_sizes = np.zeros((len(row_masks), 1)), np.zeros((1, len(column_masks)))
    for path in row_masks[0]:
        rows, columns = (
            np.stack([masks[path].ravel() for masks in of]).astype(np.float32)
            for of in (row_masks, column_masks)
        )
        both += rows @ columns.T
        row_sizes += rows.sum(1, keepdims=True, dtype=np.float64)
        column_sizes += columns.sum(1, keepdims=True, dtype=np.float64).T
    either = row_sizes + column_sizes - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def chance(one: float, two: float) -> float:
    """The overlap to expect of random masks of two densities."""
    return one * two / (one + two - one * two)


def kernel_kinds(run: RunDir, *, data_dir: str | None = None) -> dict[str, str]:
    """{path: kind} of the kernels of transposed and depthwise convolutions.

    The networks of lottery_tf.models have none. Of others a layer's bias, which has an entry for
    each output, says what a kernel of shape (…, a, b) is: b of a usual convolution, a of a
    transposed, a * b of a depthwise one. Where it is not there, or fits two kinds, the network is
    built and its layers are asked.
    """
    if run.config()["model"] in MODELS:
        return {}
    shapes = FinishedRound(run.path, 0).shapes("final")
    kinds = {}
    for path, (*_, first, last) in FinishedRound(run.path, 0).shapes().items():
        bias = shapes.get(path.removesuffix("kernel") + "bias", ())
        if not path.endswith("/kernel") or len(shapes[path]) < 3 or len(bias) > 1:
            continue  # SeparableConv, Dense, EinsumDense
        outputs = {"": last, TRANSPOSED: first, DEPTHWISE: first * last}
        possible = [kind for kind, count in outputs.items() if bias == (count,)]
        if possible == ["", DEPTHWISE]:  # of one channel: the same
            possible = [""]
        if len(possible) != 1:
            from lottery_tf import masking

            return masking.kernel_kinds(loading.network_of(run, data_dir=data_dir))
        kinds[path] = possible[0]
    return {path: kind for path, kind in kinds.items() if kind}


def report_masks(
    runs: Runs, other: RunDir | None, output: Output, *, data_dir: str | None = None
) -> list[tuple[RunDir, list[Row], list[Row]]]:
    """Writes, draws and logs layers and overlaps of runs, and of all as replicates.

    Returns:
        [(run, rows of the layers of its last round, rows of its overlaps with `other`)].
    """
    check_same_experiment([*runs, other])
    to_print = []

    def measure(run, _):
        masks = _masks(run)
        rows = _layers_of(masks, kernel_kinds(run, data_dir=data_dir))
        matrix = _overlaps(masks, other)
        last = [row for row in rows if row["round"] == rows[-1]["round"]]
        to_print.append((run, last, _with_chance(run, other, matrix) if other else []))
        return rows, {"": matrix}

    def combine(values):
        of_other = other.metrics() if other else None
        rows, matrices = zip(*values, strict=True)
        sound = [
            without_collapsed(run.metrics(), of_run[""], of_other)
            for run, of_run in zip(runs, matrices, strict=True)
        ]
        return of_runs(runs, rows, ("round", "layer")), over_matrices(sound)

    def findings(run, value, title):
        return [_findings(run, other, *value, title, len(runs))]

    report("masks", runs, output, measure, findings, combine)
    return to_print


def overlap_columns(other: RunDir) -> Columns:
    """The columns to print of the overlaps with another run."""
    return {
        "round": ("round", "{:d}"),
        "density": ("density", "{:.2%}"),
        "overlap": (f"overlap with {other.path.name}", "{:.3f}"),
        "chance": ("of random masks", "{:.3f}"),
    }


def _with_chance(run, other, overlaps):
    return [
        {name: row[name] for name in ("round", "density")}
        | {"overlap": float(overlap), "chance": chance(row["density"], column["density"])}
        for row, column, overlap in zip(
            run.metrics(), other.metrics(), overlaps.diagonal(), strict=False
        )
    ]


def _masks(run):
    rounds = finished(run)
    check_files(rounds)
    return [finished_round.masks() for finished_round in rounds]


def _overlaps(masks, other):
    return jaccard(masks, _masks(other) if other else masks)


def _findings(run, other, rows, matrices, title, count):
    """The Findings of a run, {"": matrix}, or of `count` as replicates, {"mean": matrix, …}."""
    name = f"_overlap_to_{other.path.name}" if other else "_overlap"
    tables, pictures = {"_layers": rows}, {}
    last = run.finished_rounds() - 1
    if "" in matrices:
        points = [row | {"alive": 1 - row["dead_outputs"] / row["outputs"]} for row in rows]
        by_layer = {layer: of for (layer,), of in group(points, ("layer",)).items()}
        figure = figures.layers(by_layer, columns=DRAWN, title=title)
        pictures["masks/layers"] = (last, "_layers", figure)
    for which, matrix in matrices.items():
        end = f"{name}_{which}" if which else name
        of = f"{which} of {count} runs" if which else title
        figure = figures.matrix(matrix, run, other, what=OVERLAP, title=of)
        tables[end] = labelled(matrix)
        pictures[f"masks/{end[1:]}"] = (last, end, figure)
    return Findings("masks" + (name if other else ""), tables, pictures)
