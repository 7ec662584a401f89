"""What masks have in common, and what they leave of each layer.

Only where a file does not tell one kind of convolution from another (see `kernel_kinds`)
is the network built, which imports TensorFlow; its dataset is then looked for in `data_dir`, by
default the run's.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Column, Findings, Measure, Picture, Table, usual
from lottery_tf.analysis.replicates import group, labelled, matrices_of_runs, of_runs
from lottery_tf.analysis.runs import check_same_experiment, metrics_with, network_of
from lottery_tf.config.fields import flag
from lottery_tf.models import MODELS
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array, Masks
from lottery_tf.pruning.dead_units import DEPTHWISE, TRANSPOSED, layers
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

LAYER_COLUMNS: Columns = {
    "layer": Column("layer", "{}", "path of the kernel"),
    "density": Column("density", "{:.2%}", "fraction of the layer's weights that is alive"),
    "remaining": Column("weights", "{:,d}", "number of weights alive"),
    "outputs": Column("outputs", "{:,d}", "number of units or channels"),
    "dead_outputs": Column("dead", "{:,d}", "outputs without a weight into them"),
    "unused_inputs": Column("unused inputs", "{:,d}", "inputs without a weight from them"),
    "state": Column("state", "{}", "whether the layer collapses"),
}
OVERLAP = "Jaccard overlap of masks: in both / in one or both"
DRAWN = {
    "density": ("density of the layer (%)", True),
    "alive": ("outputs with a weight into them (%)", False),
}


def of_layers(run: RunDir, *, data_dir: str | None = None) -> list[Row]:
    """Return rows of {round, network_density} and what `layers` gives, by round and layer."""
    return _layers_of(_masks(run), kernel_kinds(run, data_dir=data_dir))


def _layers_of(masks: Sequence[Masks], kinds: dict[str, str]) -> list[Row]:
    return [
        {"round": round, "network_density": density(mask)} | row
        for round, (mask, before) in enumerate(zip(masks, [None, *masks], strict=False))
        for row in layers(mask, before, kinds=kinds)
    ]


def overlaps(run: RunDir, other: RunDir | None = None) -> list[Row]:
    """Return rows of {round, 0, 1, …}: the Jaccard overlap of a run's masks with `other`'s."""
    check_same_experiment([run, other])
    masks = _masks(run)
    return labelled(jaccard(masks, _masks(other) if other else masks))


def jaccard(row_masks: Sequence[Masks], column_masks: Sequence[Masks]) -> Array:
    """Return the Jaccard overlap of each mask with each of others, (rows, columns) in [0, 1].

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
    """Return the overlap to expect of random masks of two densities."""
    return one * two / (one + two - one * two)


def kernel_kinds(run: RunDir, *, data_dir: str | None = None) -> dict[str, str]:
    """Return {path: kind} of the kernels of transposed and depthwise convolutions.

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
        match [kind for kind, count in outputs.items() if bias == (count,)]:
            case ["", *others] if others in ([], [DEPTHWISE]):  # of one channel both are the same
                pass
            case [kind]:
                kinds[path] = kind
            case _:
                from lottery_tf import masking

                return masking.kernel_kinds(network_of(run, data_dir=data_dir))
    return kinds


def _masks(run: RunDir) -> list[Masks]:
    rounds = finished(run)
    check_files(rounds)
    return [finished_round.masks() for finished_round in rounds]


# Rows of layers, and {"": matrix} of a run, or {"mean": matrix, …} of several as replicates.
Value = tuple[list[Row], dict[str, Array]]


@dataclasses.dataclass
class MasksMeasure(Measure[Value]):
    """Compares masks between rounds and runs, and shows what is left of each layer.

    python -m tools.masks --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    data_dir: str | None = flag(
        None,
        "Directory that holds the prepared datasets. Only a network of your own needs it, if its "
        "files do not tell transposed convolutions from others. Default: that of the run.",
        path=True,
    )

    name = "masks"
    columns = LAYER_COLUMNS
    by = ("round", "layer")
    other_help = "Run whose masks form the columns of the overlap. Default: those of --run_dir."
    title = "Layers and overlap of masks"
    csv_files: ClassVar = {
        "masks_layers.csv": "one row for each round and layer",
        "masks_overlap_to_{run}.csv": "Jaccard overlap of masks: one row for each round, one "
        "column for each round of --other_run; masks_overlap.csv without it",
    }
    csv_columns: ClassVar = {
        "round": ("", "number of the round"),
        "network_density": ("fraction", "fraction of the prunable weights that is alive"),
    }
    picture_tags: ClassVar = {
        "masks/layers": ("masks_layers.png", "density and living outputs of each layer"),
        "masks/overlap": ("masks_overlap.png", "overlap of the masks of all rounds"),
        "masks/overlap_to_{run}": ("masks_overlap_to_{run}.png", "overlap with --other_run"),
    }

    def prepare(self) -> None:
        """Check that the runs go together."""
        check_same_experiment([*self.runs, self.other])

    def measure(self, run: RunDir, cache: Cache) -> Value:
        """Return the rows of layers, and the matrix of overlaps."""
        masks = _masks(run)
        rows = _layers_of(masks, kernel_kinds(run, data_dir=self.data_dir))
        return rows, {"": jaccard(masks, _masks(self.other) if self.other else masks)}

    def combine(self, values: list[Value]) -> Value:
        over = matrices_of_runs(self.runs, [matrices[""] for _, matrices in values], self.other)
        return of_runs(self.runs, [rows for rows, _ in values], self.by), over

    def findings(self, run: RunDir, value: Value, title: str) -> list[Findings]:
        """Return the tables and pictures of layers and overlaps."""
        from lottery_tf.plots import figures

        rows, matrices = value
        name = f"_overlap_to_{self.other.path.name}" if self.other else "_overlap"
        tables, pictures = {"_layers": rows}, {}
        if "" in matrices:
            points = [row | {"alive": 1 - row["dead_outputs"] / row["outputs"]} for row in rows]
            by_layer = {layer: of for (layer,), of in group(points, ("layer",)).items()}
            figure = figures.layers(by_layer, columns=DRAWN, title=title)
            pictures["masks/layers"] = Picture(figure, "_layers")
        for which, matrix in matrices.items():
            end = f"{name}_{which}" if which else name
            of = f"{which} of {len(self.runs)} runs" if which else title
            figure = figures.matrix(matrix, run, self.other, what=OVERLAP, title=of)
            tables[end] = labelled(matrix)
            pictures[f"masks/{end[1:]}"] = Picture(figure, end)
        return [Findings(f"masks{name}" if self.other else "masks", tables, pictures)]

    def shown(self, values: list[Value], value: Value) -> list[str | Table]:
        """Return the layers of the last round of each run, and its overlaps with another run."""
        lines: list[str | Table] = []
        for run, (rows, matrices) in zip(self.runs, values, strict=True):
            last = [row for row in rows if row["round"] == rows[-1]["round"]]
            round, density = last[0]["round"], last[0]["network_density"]
            lines.append(f"{run.path}, round {round}, density {density:.2%}")
            lines.append((last, self.columns))
            if self.other:
                columns = usual("round", "density") | {
                    "overlap": (f"overlap with {self.other.path.name}", "{:.3f}"),
                    "chance": ("of random masks", "{:.3f}"),
                }
                of_both = (metrics_with(which, "density") for which in (run, self.other))
                table = [
                    one | {"overlap": overlap, "chance": chance(one["density"], two["density"])}
                    for one, two, overlap in zip(
                        *of_both, matrices[""].diagonal().tolist(), strict=False
                    )
                ]
                lines.append((table, columns))
        return lines


MEASURE = MasksMeasure
