"""Makes the sections of a report about what pruning leaves: weights, layers, masks, pixels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lottery_tf.analysis import histograms, masks, pixels, replicates
from lottery_tf.analysis.cache import is_number
from lottery_tf.models import MODELS
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Array
from lottery_tf.pruning.dead_units import layers
from lottery_tf.pruning.top_k import density
from lottery_tf.reports.pages import Section
from lottery_tf.reports.reading import Reading
from lottery_tf.reports.relations import matrices, means
from lottery_tf.runs.rounds import FinishedRound

DENSITIES = (0.5, 0.2, 0.107, 0.035, 0.018)  # at which runs are told and drawn
NEAR = 1.26  # a factor: half of a step at --prune_fraction=0.36; twice that at 0.2
MOST_LAYERS = 7  # whose histograms are drawn
BINS = 60


def nearest(rows: Sequence[Row], target: float, *, within: float = NEAR) -> Row | None:
    """Return the row whose density is nearest to a target, by ratio; None if none is near.

    Of two it is the first. Gaps are compared to three digits: equal ones may differ by rounding to
    whole weights.
    """

    def gap(row: Row) -> float:
        return round(abs(math.log(row["density"] / target)), 3)

    found = min((row for row in rows if row["density"] > 0), key=gap, default=None)
    return found if found and gap(found) <= math.log(within) else None


def some_rounds(rows: Sequence[Row], targets: Sequence[float] = DENSITIES) -> list[Row]:
    """Return the rows nearest to some densities, each once; the last one of a shorter run."""
    found = [row for target in targets if (row := nearest(rows, target))]
    unique = list({row["round"]: row for row in found}.values())
    return unique or list(rows[-1:])


def of_histograms(readings: Sequence[Reading]) -> Section:
    """Show the surviving weights of some rounds, those of replicates together."""
    section = Section("Surviving weights")
    rows, runs = readings[0].rows, [reading.run for reading in readings]
    common = min(len(reading.rows) for reading in readings)

    def count() -> tuple[histograms.Panels, int]:
        series = {}
        for row in rows[:1] + some_rounds(rows, (0.107, 0.018)):
            if row["round"] < common:
                part = row["density"]
                label = "dense" if part == 1 else f"density {100 * part:.3g}%"
                series[label] = histograms.survivors(runs, row["round"])
        names = list(next(iter(series.values())))
        shown = names
        if len(names) > MOST_LAYERS + 1:
            places = np.linspace(0, len(names) - 2, MOST_LAYERS).round().astype(int)
            shown = [names[place] for place in places] + names[-1:]
        some = {label: {name: of[name] for name in shown} for label, of in series.items()}
        return histograms.histograms(some, BINS), len(names) - 1

    if (found := section.attempt(count)) is None:
        return section
    panels, all_layers = found
    which = "" if len(panels) > all_layers else f"; {len(panels) - 1} of {all_layers} layers"
    section.draw(
        f"Histograms of the weights that survive, after training{which}",
        lambda: figures.histograms(panels, title=""),
        finding=" ".join(
            f"{label}: {counts.sum():,.0f} weights from {edges[0]:.2f} to {edges[-1]:.2f}."
            for label, (counts, edges) in list(panels.values())[-1].items()
        ),
        wide=True,
    )
    return section


def of_layers(readings: Sequence[Reading]) -> Section:
    """Show what is left of each layer, mean over replicates."""
    section = Section("Layers")
    if not (rows := means(section, readings, layer_rows, ("round", "layer"))):
        return section
    drawn = {name: about for name, about in masks.DRAWN.items() if name in rows[0]}
    by_layer = {layer: of for (layer,), of in replicates.group(rows, ("layer",)).items()}
    section.draw(
        "What is left of each layer, by the density of the network",
        lambda: figures.layers(by_layer, columns=drawn, title=""),
        finding="At the end: "
        + ", ".join(f"{layer} {of[-1]['density']:.2%}" for layer, of in by_layer.items()),
        size=(4.2 * len(drawn) + 1.4, 3.4),
        wide=len(drawn) > 1,
    )
    last = rows[-1]["round"]
    section.blocks.append(f"In round {last}, the last one:")
    columns = {
        name: (title, form.replace(":,d", ":,.0f"))  # of means
        for name, (title, form) in masks.LAYER_COLUMNS.items()
    }
    section.add_table([row for row in rows if row["round"] == last], columns)
    return section


def layer_rows(reading: Reading) -> list[Row]:
    """Return rows of {round, network_density, layer, density, …} of each round and layer.

    The outputs of a user's own network are not counted: only the network could tell which of a
    kernel's axes they are.

    Raises:
        InputError: a file is missing or damaged.
    """
    known, before, found = reading.config.get("model") in MODELS, None, []
    for row in reading.rows:
        mask = reading.run.masks(row["round"])
        about = {"round": row["round"], "network_density": density(mask)}
        if known:
            found += [
                about | of | {"alive": 1 - of["dead_outputs"] / of["outputs"]}
                for of in layers(mask, before)
            ]
        else:
            found += [
                about | {"layer": path, "density": float(m.mean()), "remaining": int(m.sum())}
                for path, m in mask.items()
            ]
        before = mask
    return found


def of_overlap(readings: Sequence[Reading]) -> Section:
    """Show what the masks of rounds have in common, mean over replicates."""
    section = Section("Overlap of masks")
    if found := matrices(section, readings, _overlap):
        mean = replicates.over_matrices([matrix for _, matrix in found])["mean"]
        first = found[0][0].run
        section.draw(
            f"{masks.OVERLAP}, between all rounds, by their density",
            lambda: figures.matrix(mean, first, None, what=masks.OVERLAP, title=""),
            finding=f"The first and the last round have {mean[0, -1]:.3f}",
            size=(4.8, 4.0),
        )
    return section


def _overlap(reading: Reading) -> Array:
    rounds = [FinishedRound(reading.run.path, row["round"]) for row in reading.rows]

    def measure() -> list[list[float]]:
        of_rounds = [of.masks() for of in rounds]
        return masks.jaccard(of_rounds, of_rounds).tolist()

    def is_as_long(value: object) -> bool:
        return isinstance(value, list) and len(value) == len(rounds)

    def fits(value: Any) -> bool:
        is_square = is_as_long(value) and all(map(is_as_long, value))
        return is_square and all(is_number(cell) for row in value for cell in row)

    if not reading.sound:  # though the masks may be whole
        return np.array(measure())
    return np.array(reading.cache("masks").reuse(rounds, ["jaccard"], measure, fits=fits))


def of_pixels(readings: Sequence[Reading]) -> Section | None:
    """Show where a first dense layer looks; None if the network has none that sees images."""
    section, reading = Section("Pixels that the first layer looks at"), readings[0]
    if reading.own_fit or not reading.rows:
        return None
    chosen = {row["round"]: row for row in some_rounds(reading.rows, DENSITIES[1:])}
    maps = section.attempt(pixels.counts_of_rounds, reading.run, list(chosen))
    if maps is None:
        return section
    if not maps:
        return None
    panels = {f"density {chosen[round]['density']:.2%}": counts for round, counts in maps.items()}
    of = f" of {reading.name}" if len(readings) > 1 else ""
    section.draw(
        f"Surviving weights of the first layer at each pixel{of}; each picture on a scale of its "
        "own",
        lambda: figures.heat_maps(panels, what="weights at a pixel"),
        finding=", ".join(f"{name}: at most {of.max():.0f}" for name, of in panels.items()),
        wide=True,
    )
    return section
