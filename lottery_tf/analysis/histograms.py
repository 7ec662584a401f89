"""Histograms of surviving weights (Figs. 5, 19, 22). NumPy and matplotlib only."""

import numpy as np

from lottery_tf.analysis import tool
from lottery_tf.analysis.rounds import Network, check_files
from lottery_tf.output import figures

ALL_LAYERS = "all layers"


def survivors(weights, masks):
    """{layer: (survivors,) weights}, and those of all layers together."""
    found = {path: weights[path][mask] for path, mask in masks.items()}
    return found | {ALL_LAYERS: np.concatenate(list(found.values()))}


def histograms(series, bins):
    """{layer: {label: (counts (bins,), edges (bins + 1,))}} on common bins, symmetric about 0.

    Args:
        series: {label: {layer: weights}}.
        bins: how many; they hold the largest |w| of all.
    """
    layers = dict.fromkeys(layer for layer_weights in series.values() for layer in layer_weights)
    found = {}
    for layer in layers:
        parts = {label: weights[layer] for label, weights in series.items()}
        end = max(float(np.abs(values).max(initial=0)) for values in parts.values()) or 1.0
        found[layer] = {
            label: np.histogram(values, bins, (-end, end)) for label, values in parts.items()
        }
    return found


def report(groups, at_rounds, bins):
    """Writes, draws, logs and prints the histograms of groups of runs beside one another.

    Args:
        groups: {label: RunDirs}; the weights of replicates are taken together. The results go to
            the first run.
        at_rounds: the rounds.
        bins: of each histogram.
    """
    first = next(iter(groups.values()))[0]
    results = tool.results(first, "histograms", [first])
    table, summary, images = [], [], {}
    for round in at_rounds:
        series = {label: _of_runs(runs, round) for label, runs in groups.items()}
        found = histograms(series, bins)
        for layer, labels in found.items():
            for label, (counts, edges) in labels.items():
                about = {"run": label, "round": round, "layer": layer}
                table += [
                    about | {"from": float(low), "to": float(high), "count": int(number)}
                    for number, low, high in zip(counts, edges, edges[1:], strict=False)
                ]
                summary.append(about | describe(series[label][layer]))
        density = first.metrics()[round]["density"]
        images[f"histograms/round_{round:02d}"] = (
            round,
            results.draw(
                figures.histograms,
                found,
                suffix=f"_round_{round:02d}",
                title=f"surviving weights after training round {round}, density {density:.3g}",
                pdf=tool.PDF.value,
            ),
        )
    results.write_table(table)
    tool.log(first, "histograms", images=images)
    columns = {
        "run": ("run", "{}"),
        "round": ("round", "{:d}"),
        "layer": ("layer", "{}"),
        "survivors": ("survivors", "{:,d}"),
        "mean_magnitude": ("mean |w|", "{:.4f}"),
        "deviation": ("std", "{:.4f}"),
        "largest": ("largest |w|", "{:.4f}"),
    }
    tool.print_table(summary, columns)


def _of_runs(runs, round):
    found = []
    for run in runs:
        network = Network(str(run.path), round)
        check_files([network])
        found.append(survivors(network.final(), network.masks()))
    return {layer: np.concatenate([weights[layer] for weights in found]) for layer in found[0]}


def describe(weights):
    """{survivors, mean_magnitude, deviation, largest} of some weights."""
    magnitudes = np.abs(weights.astype(np.float64))
    if not weights.size:
        return {"survivors": 0, "mean_magnitude": 0.0, "deviation": 0.0, "largest": 0.0}
    return {
        "survivors": weights.size,
        "mean_magnitude": float(magnitudes.mean()),
        "deviation": float(weights.astype(np.float64).std()),
        "largest": float(magnitudes.max()),
    }
