"""What masks have in common, and what they leave of each layer. NumPy and matplotlib only.

Only where a file does not tell a transposed convolution from another (see `transposed_kernels`)
is the network built, which imports TensorFlow.
"""

import numpy as np

from lottery_tf.analysis import loading, replicates
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import check_same_experiment
from lottery_tf.method.pruning import density
from lottery_tf.models import MODELS
from lottery_tf.output import figures
from lottery_tf.store.rounds import FinishedRound, check_files, finished
from lottery_tf.store.rundir import RunDir

LAYER_COLUMNS = {
    "layer": ("layer", "{}"),
    "density": ("density", "{:.2%}"),
    "remaining": ("weights", "{:,d}"),
    "outputs": ("outputs", "{:,d}"),
    "dead_outputs": ("dead", "{:,d}"),
    "unused_inputs": ("unused inputs", "{:,d}"),
    "state": ("state", "{}"),
}


def of_layers(run: RunDir, *, data_dir: str | None = None) -> list[dict]:
    """Rows of {round, network_density} and what `layers` gives, of each round and layer.

    If the network must be built, the dataset is looked for in `data_dir`, by default the run's.
    """
    return _layers_of(_masks(run), transposed_kernels(run, data_dir=data_dir))


def _layers_of(masks, transposed):
    rows = []
    for round, (mask, before) in enumerate(zip(masks, [None, *masks], strict=False)):
        about = {"round": round, "network_density": density(mask)}
        rows += [about | row for row in layers(mask, before, transposed=transposed)]
    return rows


def overlaps(run: RunDir, other: RunDir | None = None) -> list[dict]:
    """Rows of {round, 0, 1, …}: the Jaccard overlap of a run's masks with those of `other`."""
    check_same_experiment([run, other] if other else [run])
    return _labelled(_overlaps(_masks(run), other))


def jaccard(row_masks, column_masks) -> np.ndarray:
    """The Jaccard overlap of each of some masks with each of others, (rows, columns) in [0, 1].

    Weights alive in both / weights alive in one or both; 1 where both are empty.

    Args:
        row_masks, column_masks: lists of {kernel path: bool array}.
    """
    both = np.zeros((len(row_masks), len(column_masks)))
    row_sizes, column_sizes = np.zeros((len(row_masks), 1)), np.zeros((1, len(column_masks)))
    for path in row_masks[0]:
        rows, columns = (
            np.stack([masks[path].ravel() for masks in group]).astype(np.float32)
            for group in (row_masks, column_masks)
        )
        both += rows @ columns.T
        row_sizes += rows.sum(1, keepdims=True, dtype=np.float64)
        column_sizes += columns.sum(1, keepdims=True, dtype=np.float64).T
    either = row_sizes + column_sizes - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def chance(row_densities, column_densities) -> np.ndarray:
    """The overlap to expect of random masks of these densities, (rows, columns)."""
    one, two = np.array(row_densities)[:, None], np.array(column_densities)[None]
    return one * two / (one + two - one * two)


def count_alive(path: str, mask: np.ndarray, *, transposed: bool = False) -> dict[str, int]:
    """{remaining, outputs, dead_outputs, unused_inputs} of a kernel's mask.

    A dead output has no weight into it, an unused input none out of it. Kernels of dense and
    convolution layers are (…, inputs, outputs); of transposed convolutions (…, outputs, inputs);
    of depthwise ones (…, channels, multiplier), each of which is an output of one input.
    """
    alive = mask.reshape(-1, *mask.shape[-2:]).any(0)  # (inputs, outputs)
    if transposed:
        alive = alive.T
    depthwise = "depthwise" in path.rpartition("/")[2]
    outputs_alive = alive if depthwise else alive.any(0)
    return {
        "remaining": int(mask.sum()),
        "outputs": outputs_alive.size,
        "dead_outputs": int((~outputs_alive).sum()),
        "unused_inputs": int((~alive.any(1)).sum()),
    }


def transposed_kernels(run: RunDir, *, data_dir: str | None = None) -> set[str]:
    """The paths of the kernels of transposed convolutions.

    The networks of lottery_tf.models have none. Of others a kernel of shape (…, a, b) is one if
    its layer's bias has a entries, and none if it has b. Where a = b or there is no bias, the
    network is built and its layers are asked.
    """
    if run.config()["model"] in MODELS:
        return set()
    shapes = FinishedRound(run.path, 0).shapes("final")
    transposed = set()
    for path, (*_, first, last) in FinishedRound(run.path, 0).shapes().items():
        bias = shapes.get(path.removesuffix("kernel") + "bias", ())
        if not path.endswith("/kernel") or len(shapes[path]) < 3 or len(bias) > 1:
            continue  # SeparableConv, Dense, EinsumDense
        if first == last or bias not in ((first,), (last,)):
            from lottery_tf import masking

            return masking.transposed_kernels(loading.network_of(run, data_dir=data_dir))
        if bias == (first,):
            transposed.add(path)
    return transposed


def layers(masks, previous=None, *, transposed=frozenset()) -> list[dict]:
    """A row per layer: {layer, density, remaining, outputs, dead_outputs, unused_inputs, state}.

    The state is "collapsed" without a weight, "collapsing" with fewer weights than outputs after
    another pruning like the last one, else "".

    Args:
        masks: {kernel path: bool array}.
        previous: those of the round before; None in round 0.
        transposed: the paths of the kernels of transposed convolutions.
    """
    rows = []
    for path, mask in masks.items():
        counts = count_alive(path, mask, transposed=path in transposed)
        row = {"layer": path, "density": float(mask.mean())} | counts
        before = int(previous[path].sum()) if previous else row["remaining"]
        next_remaining = row["remaining"] ** 2 / before if before else 0
        row["state"] = "collapsing" if next_remaining < row["outputs"] else ""
        if not row["remaining"]:
            row["state"] = "collapsed"
        rows.append(row)
    return rows


def report_masks(runs, other, output: Output, *, data_dir: str | None = None) -> list[tuple]:
    """Writes, draws and logs layers and overlaps of RunDirs, and of all as replicates.

    Returns:
        [(RunDir, rows of the layers of its last round, rows of its overlaps with `other`)].
    """
    check_same_experiment([*runs, other] if other else runs)
    to_print = []

    def measure(run, _):
        masks = _masks(run)
        rows = _layers_of(masks, transposed_kernels(run, data_dir=data_dir))
        matrix = _overlaps(masks, other)
        last = [row for row in rows if row["round"] == rows[-1]["round"]]
        to_print.append((run, last, _with_chance(run, other, matrix) if other else []))
        return rows, {"": matrix}

    def combine(values):
        rows, of_runs = zip(*values, strict=True)
        means = replicates.over_matrices([m[""] for m in of_runs], init=False)
        return replicates.over_runs(rows, ("round", "layer")), means

    def findings(run, value, title):
        return [_findings(run, other, *value, title, len(runs))]

    report("masks", runs, output, measure, findings, combine)
    return to_print


def overlap_columns(other: RunDir) -> dict:
    """The columns to print of the overlaps with another run."""
    return {
        "round": ("round", "{:d}"),
        "density": ("density", "{:.2%}"),
        "overlap": (f"overlap with {other.path.name}", "{:.3f}"),
        "chance": ("of random masks", "{:.3f}"),
    }


def _with_chance(run, other, overlaps):
    return [
        {
            "round": row["round"],
            "density": row["density"],
            "overlap": float(overlaps[index, index]),
            "chance": float(chance([row["density"]], [column["density"]])[0, 0]),
        }
        for index, (row, column) in enumerate(zip(run.metrics(), other.metrics(), strict=False))
    ]


def _masks(run):
    rounds = finished(run)
    check_files(rounds)
    return [finished_round.masks() for finished_round in rounds]


def _overlaps(masks, other):
    return jaccard(masks, _masks(other) if other else masks)


def _labelled(overlaps):
    return replicates.labelled(overlaps, *map(range, overlaps.shape))


def _findings(run, other, rows, matrices, title, count):
    """The Findings of a run, {"": matrix}, or of `count` as replicates, {"mean": matrix, …}."""
    name = f"_overlap_to_{other.path.name}" if other else "_overlap"
    tables, pictures = {"_layers": rows}, {}
    last = run.finished_rounds() - 1
    if "" in matrices:
        pictures["masks/layers"] = (last, "_layers", _draw_layers(rows, title))
    for which, matrix in matrices.items():
        end = f"{name}_{which}" if which else name
        labels = (
            figures.densities(of)[:size]
            for of, size in zip((run, other or run), matrix.shape, strict=True)
        )
        of = f"{which} of {count} runs" if which else title
        figure = figures.matrix(
            matrix,
            *labels,
            what="Jaccard overlap of masks: in both / in one or both",
            limits=(0, 1),
            title=of + (f" (rows) and {other.path.name} (columns)" if other else ""),
        )
        tables[end] = _labelled(matrix)
        pictures[f"masks/{end[1:]}"] = (last, end, figure)
    return Findings("masks" + (name if other else ""), tables, pictures)


def _draw_layers(rows, title):
    by_layer = {}
    for row in rows:
        alive = 1 - row["dead_outputs"] / row["outputs"]
        point = {"density": row["network_density"], "layer_density": row["density"]}
        by_layer.setdefault(row["layer"], []).append(point | {"alive": alive})
    columns = {
        "layer_density": ("density of the layer (%)", True),
        "alive": ("outputs with a weight into them (%)", False),
    }
    return figures.layers(by_layer, columns=columns, title=title)
