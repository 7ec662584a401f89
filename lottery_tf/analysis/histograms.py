"""Histograms of surviving weights (Figs. 5, 19, 22). NumPy and matplotlib only."""

from collections.abc import Mapping

import numpy as np

from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Groups, Rounds, as_groups, check_at_least, select_common_rounds
from lottery_tf.method import Array, Masks, Weights
from lottery_tf.output import Row, figures
from lottery_tf.store.rounds import FinishedRound, check_files
from lottery_tf.store.rundir import RunDir

ALL_LAYERS = "all layers"
USUAL_ROUNDS = (10,)
COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "layer": ("layer", "{}"),
    "survivors": ("survivors", "{:,d}"),
    "mean_magnitude": ("mean |w|", "{:.4f}"),
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


def survivors(weights: Weights, masks: Masks) -> dict[str, Array]:
    """{layer: (survivors,) weights}, and those of all layers together."""
    alive = {path: weights[path][mask] for path, mask in masks.items()}
    return alive | {ALL_LAYERS: np.concatenate(list(alive.values()))}


def histograms(series: Mapping[str, Mapping[str, Array]],
               bins: int) -> dict[str, dict[str, tuple[Array, Array]]]:  # fmt: skip
    """{layer: {label: (counts (bins,), edges (bins + 1,))}} on common bins, symmetric about 0.

    Args:
        series: {label: {layer: weights}}.
        bins: how many; they hold the largest |w| of all.
    """
    panels = {}
    for layer in dict.fromkeys(layer for of_label in series.values() for layer in of_label):
        parts = {label: weights[layer] for label, weights in series.items()}
        end = max(float(np.abs(values).max(initial=0)) for values in parts.values()) or 1.0
        panels[layer] = {
            label: np.histogram(values, bins, (-end, end)) for label, values in parts.items()
        }
    return panels


def report_histograms(groups: Groups, output: Output, *, at_rounds: Rounds, bins: int) -> list[Row]:
    """Writes, draws and logs the rows of `of_rounds` with the first run.

    Returns:
        The rows to print, {run, round, layer, survivors, mean_magnitude, deviation, largest}.
    """

    def measure(*_):
        return list(_of_rounds(groups, at_rounds, bins))

    def findings(first, of_rounds, _):
        table, pictures = [], {}
        for panels, counts, _ in of_rounds:
            table += counts
            round = counts[0]["round"]
            density = first.metrics()[round]["density"]
            title = f"surviving weights after training round {round}, density {density:.2%}"
            figure = figures.histograms(panels, title=title)
            end = f"_round_{round:02d}"
            pictures[f"histograms/{end[1:]}"] = (round, end, figure)
        return [Findings("histograms", {"": table}, pictures)]

    first = next(iter(groups.values()))[0]
    of_rounds = report("histograms", [first], output, measure, findings)
    return [row for *_, summary in of_rounds for row in summary]


def _of_rounds(groups, at_rounds, bins):
    """Yields (what `histograms` gives, its rows, a row for each layer) of each round."""
    check_at_least(1, bins=bins)
    runs = [run for of_label in groups.values() for run in of_label]
    for round in select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS):
        series = {label: _survivors_of(runs, round) for label, runs in groups.items()}
        panels, counts, summary = histograms(series, bins), [], []
        for layer, labels in panels.items():
            for label, (numbers, edges) in labels.items():
                about = {"run": label, "round": round, "layer": layer}
                counts += [
                    about | {"from": float(low), "to": float(high), "count": int(number)}
                    for number, low, high in zip(numbers, edges, edges[1:], strict=False)
                ]
                summary.append(about | _describe(series[label][layer]))
        yield panels, counts, summary


def _survivors_of(runs, round):
    rounds = [FinishedRound(run.path, round) for run in runs]
    check_files(rounds)
    alive = [survivors(r.final(), r.masks()) for r in rounds]
    return {layer: np.concatenate([weights[layer] for weights in alive]) for layer in alive[0]}


def _describe(weights):
    """{survivors, mean_magnitude, deviation, largest} of some weights; zeros of none."""
    some = weights.astype(np.float64) if weights.size else np.zeros(1)
    return {
        "survivors": weights.size,
        "mean_magnitude": float(np.abs(some).mean()),
        "deviation": float(some.std()),
        "largest": float(np.abs(some).max()),
    }
