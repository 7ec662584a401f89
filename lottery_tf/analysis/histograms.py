"""Histograms of surviving weights (Figs. 5, 19, 22)."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from lottery_tf.analysis.measure import BESIDE, Column, Findings, Measure, Picture, Table, usual
from lottery_tf.analysis.replicates import means_beside, seeds_of_runs
from lottery_tf.analysis.runs import (
    Groups,
    Rounds,
    Runs,
    as_groups,
    check_at_least,
    select_common_rounds,
)
from lottery_tf.config.fields import flag
from lottery_tf.plots import Columns, Row
from lottery_tf.plots.counting import BLOCK, Blocks, count, describe
from lottery_tf.pruning import Array
from lottery_tf.runs.rounds import FinishedRound, check_files
from lottery_tf.runs.rundir import RunDir

Panels = dict[str, dict[str, tuple[Array, Array]]]  # {layer: {label: (counts, edges)}}
OfRound = tuple[Panels, list[Row], list[Row]]  # a round's panels, their rows, a row for each layer
ALL_LAYERS = "all layers"
USUAL_ROUNDS = (10,)
COLUMNS: Columns = {
    **usual("run", "round"),
    "layer": Column("layer", "{}", "path of the kernel, or all layers together"),
    "survivors": Column("survivors", "{:,.0f}", "number of weights alive"),
    "mean_magnitude": Column("mean |w|", "{:.4f}", "mean |w| of the weights alive"),
    "dense_magnitude": Column("in round 0", "{:.4f}", "mean |w| of the same weights after round 0"),
    "deviation": Column("std", "{:.4f}", "standard deviation of the weights alive"),
    "largest": Column("largest |w|", "{:.4f}", "largest |w| of the weights alive"),
}


def of_rounds(runs: RunDir | Groups, *, at_rounds: Rounds = (), bins: int = 60) -> list[Row]:
    """Return rows of {run, round, layer, from, to, count}: the surviving weights in each bin.

    Of replicates there are rows of each seed, and the bins are common to all. By default they are
    of round 10, or the last of a shorter run.
    """
    return [row for _, counts, _ in _of_rounds(as_groups(runs), at_rounds, bins) for row in counts]


def survivors(runs: Runs, round: int, *, trained_in: int | None = None) -> dict[str, Blocks]:
    """Return {layer: a function that yields the surviving weights of a round}; and of all layers.

    The weights of replicates are taken together. They are those that round `trained_in` trained, by
    default the same one.
    """
    of = round if trained_in is None else trained_in
    rounds = [(FinishedRound(run.path, of), FinishedRound(run.path, round)) for run in runs]
    check_files([one for pair in rounds for one in pair])

    def blocks(layers: Sequence[str]) -> Iterator[Array]:
        for (trained, masked), layer in itertools.product(rounds, layers):
            pair = trained.blocks("final", layer, BLOCK), masked.blocks("masks", layer, BLOCK)
            for weights, mask in zip(*pair, strict=True):
                if not np.isfinite(weights).all():
                    raise trained.not_finite("final", layer)
                yield weights[mask]

    layers = list(rounds[0][0].shapes())
    names = {**{layer: [layer] for layer in layers}, ALL_LAYERS: layers}
    return {name: functools.partial(blocks, layers) for name, layers in names.items()}


def histograms(series: Mapping[str, Mapping[str, Blocks]], bins: int) -> Panels:
    """Return {layer: {label: (counts (bins,), edges (bins + 1,))}} on common bins around 0.

    The series are {label: what `survivors` gives}; the bins hold the largest |w| of all.
    """
    panels: Panels = {}
    for layer in dict.fromkeys(layer for of_label in series.values() for layer in of_label):
        parts = {label: of_label[layer] for label, of_label in series.items()}
        blocks = (block for part in parts.values() for block in part())
        end = max(float(np.abs(block).max(initial=0)) for block in blocks) or 1.0
        edges = np.linspace(-end, end, bins + 1)
        panels[layer] = {
            label: (count(part(), bins, (-end, end)), edges) for label, part in parts.items()
        }
    return panels


def together(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return (counts, edges) of the weights of several histograms of the same edges together."""
    return np.sum([counts for counts, _ in parts], 0), parts[0][1]


def _of_rounds(groups: Groups, at_rounds: Rounds, bins: int) -> Iterator[OfRound]:
    """Yield what there is of each round."""
    check_at_least(1, bins=bins)
    runs = [run for of_label in groups.values() for run in of_label]
    several = len(runs) > len(groups)
    for round in select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS):
        series = {str(run.path): survivors([run], round) for run in runs}
        dense = {str(run.path): survivors([run], round, trained_in=0) for run in runs}
        of_each = histograms(series, bins)
        counts: list[Row] = []
        summary: list[Row] = []
        for layer, label in itertools.product(of_each, groups):
            for run, seeds in zip(groups[label], seeds_of_runs(groups[label]), strict=True):
                of_seed = seeds if several else {}
                about: Row = {"run": label} | of_seed | {"round": round, "layer": layer}
                numbers, edges = of_each[layer][str(run.path)]
                counts += [
                    about | {"from": float(low), "to": float(high), "count": int(number)}
                    for number, low, high in zip(numbers, edges, edges[1:], strict=False)
                ]
                found = describe(series[str(run.path)][layer])
                found["dense_magnitude"] = describe(dense[str(run.path)][layer])["mean_magnitude"]
                summary.append(about | {"survivors": found.pop("size")} | found)
        panels = {
            layer: {
                label: together([of[str(run.path)] for run in groups[label]]) for label in groups
            }
            for layer, of in of_each.items()
        }
        yield panels, counts, summary


@dataclasses.dataclass
class Histograms(Measure[list[OfRound]]):
    """Draws histograms of surviving weights, of one run or of two side by side (Figs. 5, 19, 22).

    python -m tools.histograms --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    at_rounds: Rounds = flag(
        (),
        "Rounds whose trained weights are counted, separated by commas. Default: 10, or the last "
        "round of a shorter run.",
    )
    bins: int = flag(60, "Number of bins of each histogram.")

    name = "histograms"
    columns = COLUMNS
    beside = True
    other_help = BESIDE
    title = "Surviving weights"
    csv_files: ClassVar = {
        "histograms.csv": "one row for each bin of a layer's histogram, of each seed",
        "histograms_magnitudes.csv": "one row for each run, round and layer",
    }
    csv_columns: ClassVar = {
        "from": ("", "lower end of the bin"),
        "to": ("", "upper end of the bin"),
        "count": ("weights", "number of surviving weights in the bin"),
    }
    picture_tags: ClassVar = {
        "histograms/round_{NN}": ("histograms_round_{NN}.png", "surviving weights of each layer"),
    }

    def measure(self, *_: object) -> list[OfRound]:
        return list(_of_rounds(self.groups, self.at_rounds, self.bins))

    def findings(self, run: RunDir, value: list[OfRound], title: str) -> list[Findings]:
        """Return the table of bins, that of magnitudes, and a picture of each round."""
        from lottery_tf.plots import figures

        pictures = {}
        for panels, counts, _ in value:
            round = counts[0]["round"]
            density = run.metrics()[round]["density"]
            title = f"surviving weights after training round {round}, density {density:.2%}"
            end = f"_round_{round:02d}"
            figure = figures.histograms(panels, title=title)
            pictures[f"histograms/{end[1:]}"] = Picture(figure, end, round)
        _, *tables = zip(*value, strict=True)
        bins, magnitudes = (list(itertools.chain(*of_rounds)) for of_rounds in tables)
        return [Findings(self.name, {"": bins, "_magnitudes": magnitudes}, pictures)]

    def shown(self, values: list[list[OfRound]], value: list[OfRound]) -> list[str | Table]:
        rows = [row for _, _, magnitudes in value for row in magnitudes]
        return [(means_beside(rows, ("round", "layer")), self.columns)]


MEASURE = Histograms
