"""Histograms of surviving weights (Figs. 5, 19, 22). NumPy and matplotlib only."""

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Groups,
    Rounds,
    Runs,
    as_groups,
    check_at_least,
    select_common_rounds,
)
from lottery_tf.plots import Row, figures
from lottery_tf.plots.counting import BLOCK, Blocks, count, describe
from lottery_tf.pruning import Array
from lottery_tf.runs.rounds import FinishedRound, check_files
from lottery_tf.runs.rundir import RunDir

ALL_LAYERS = "all layers"
USUAL_ROUNDS = (10,)
COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "layer": ("layer", "{}"),
    "survivors": ("survivors", "{:,d}"),
    "mean_magnitude": ("mean |w|", "{:.4f}"),
    "dense_magnitude": ("in round 0", "{:.4f}"),
    "deviation": ("std", "{:.4f}"),
    "largest": ("largest |w|", "{:.4f}"),
}


def of_rounds(runs: RunDir | Groups, *, at_rounds: Rounds = (), bins: int = 60) -> list[Row]:
    """Rows of {run, round, layer, from, to, count}: how many surviving weights lie in each bin.

    Args:
        runs: one, or {label: runs}; the weights of replicates are taken together.
        at_rounds: the rounds; by default round 10, or the last of a shorter run.
        bins: of each histogram; they are common to the groups.

    Raises:
        InputError: a round is not there, or a file is damaged.
    """
    return [row for _, counts, _ in _of_rounds(as_groups(runs), at_rounds, bins) for row in counts]


def survivors(runs: Runs, round: int, *, trained_in: int | None = None) -> dict[str, Blocks]:
    """{layer: a function that gives the surviving weights of a round in blocks}; and of all layers.

    Args:
        runs: the weights of replicates are taken together.
        round: the round under whose masks they survive.
        trained_in: the round whose trained weights they are. Default: the same.
    """
    of = round if trained_in is None else trained_in
    rounds = [(FinishedRound(run.path, of), FinishedRound(run.path, round)) for run in runs]
    check_files([one for pair in rounds for one in pair])
    layers = list(rounds[0][0].shapes())
    names = {**{layer: [layer] for layer in layers}, ALL_LAYERS: layers}
    return {name: functools.partial(_blocks, rounds, layers) for name, layers in names.items()}


def _blocks(rounds, layers):
    """Yields the surviving weights of layers of some rounds, (some,) at a time; checks them."""
    for (trained, masked), layer in itertools.product(rounds, layers):
        pair = trained.blocks("final", layer, BLOCK), masked.blocks("masks", layer, BLOCK)
        for weights, mask in zip(*pair, strict=True):
            if not np.isfinite(weights).all():
                raise trained.not_finite("final", layer)
            yield weights[mask]


def histograms(series: Mapping[str, Mapping[str, Blocks]],
               bins: int) -> dict[str, dict[str, tuple[Array, Array]]]:  # fmt: skip
    """{layer: {label: (counts (bins,), edges (bins + 1,))}} on common bins, symmetric about 0.

    Args:
        series: {label: what `survivors` gives}.
        bins: how many; they hold the largest |w| of all.
    """
    panels = {}
    for layer in dict.fromkeys(layer for of_label in series.values() for layer in of_label):
        parts = {label: of_label[layer] for label, of_label in series.items()}
        blocks = (block for part in parts.values() for block in part())
        end = max(float(np.abs(block).max(initial=0)) for block in blocks) or 1.0
        edges = np.linspace(-end, end, bins + 1)
        panels[layer] = {
            label: (count(part(), bins, (-end, end)), edges) for label, part in parts.items()
        }
    return panels


def report_histograms(groups: Groups, output: Output, *, at_rounds: Rounds, bins: int) -> list[Row]:
    """Writes, draws and logs the rows of `of_rounds` with the first run.

    Returns:
        The rows to print, {run, round, layer, survivors, mean_magnitude, dense_magnitude,
        deviation, largest}; dense_magnitude is the mean of the same weights after round 0.
    """

    def measure(*_):
        return list(_of_rounds(groups, at_rounds, bins))

    def findings(first, of_rounds, _):
        table, magnitudes, pictures = [], [], {}
        for panels, counts, summary in of_rounds:
            table += counts
            magnitudes += summary
            round = counts[0]["round"]
            density = first.metrics()[round]["density"]
            title = f"surviving weights after training round {round}, density {density:.2%}"
            figure = figures.histograms(panels, title=title)
            end = f"_round_{round:02d}"
            pictures[f"histograms/{end[1:]}"] = (round, end, figure)
        return [Findings("histograms", {"": table, "_magnitudes": magnitudes}, pictures)]

    first = next(iter(groups.values()))[0]
    of_rounds = report("histograms", [first], output, measure, findings)
    return [row for *_, summary in of_rounds for row in summary]


def _of_rounds(groups, at_rounds, bins):
    """Yields (what `histograms` gives, its rows, a row for each layer) of each round."""
    check_at_least(1, bins=bins)
    runs = [run for of_label in groups.values() for run in of_label]
    for round in select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS):
        series = {label: survivors(runs, round) for label, runs in groups.items()}
        dense = {label: survivors(runs, round, trained_in=0) for label, runs in groups.items()}
        panels, counts, summary = histograms(series, bins), [], []
        for layer, labels in panels.items():
            for label, (numbers, edges) in labels.items():
                about = {"run": label, "round": round, "layer": layer}
                counts += [
                    about | {"from": float(low), "to": float(high), "count": int(number)}
                    for number, low, high in zip(numbers, edges, edges[1:], strict=False)
                ]
                found = describe(series[label][layer])
                found["dense_magnitude"] = describe(dense[label][layer])["mean_magnitude"]
                summary.append(about | {"survivors": found.pop("size")} | found)
        yield panels, counts, summary
