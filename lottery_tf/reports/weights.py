"""Makes the sections of a report about what pruning leaves: weights, layers, masks, pixels."""

import math
from collections.abc import Sequence

import numpy as np

from lottery_tf.analysis import histograms, masks, pixels, replicates
from lottery_tf.analysis.cache import is_number
from lottery_tf.models import MODELS
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Array
from lottery_tf.pruning.dead_units import layers
from lottery_tf.pruning.top_k import density
from lottery_tf.reports.pages import Section, Text
from lottery_tf.reports.reading import Reading
from lottery_tf.runs.rounds import FinishedRound

DENSITIES = (0.5, 0.2, 0.107, 0.035, 0.018)  # at which runs are told and drawn
NEAR = math.log(1.26)  # half of a step at --prune_fraction=0.36; twice that at 0.2
MOST_LAYERS = 7  # whose histograms are drawn
BINS = 60


def nearest(rows: Sequence[Row], target: float) -> Row | None:
    """Return the row whose density is nearest to a target, by ratio; None if none is near."""
    positive = [row for row in rows if row["density"] > 0]
    if not positive:
        return None

    def apart(row: Row) -> float:
        return abs(math.log(row["density"] / target))

    found = min(positive, key=apart)
    return found if apart(found) <= NEAR else None


def some_rounds(rows: Sequence[Row], targets: Sequence[float] = DENSITIES) -> list[Row]:
    """Return the rows nearest to some densities, each once; the last one of a shorter run."""
    found = [row for target in targets if (row := nearest(rows, target))]
    unique = list({row["round"]: row for row in found}.values())
    return unique or list(rows[-1:])


def of_histograms(readings: Sequence[Reading]) -> Section:
    """Show the surviving weights of some rounds, those of replicates together."""
    section = Section("Surviving weights")
    rounds = {
        row["round"]: f"density {row['density']:.3g}".replace("density 1", "dense")
        if row["density"] == 1
        else f"density {100 * row['density']:.3g}%"
        for row in (readings[0].rows[:1] + some_rounds(readings[0].rows, (0.107, 0.018)))
    }
    common = min(len(reading.rows) for reading in readings)
    runs = [reading.run for reading in readings]

    def count() -> tuple[histograms.Panels, int]:
        series = {
            label: histograms.survivors(runs, round)
            for round, label in rounds.items()
            if round < common
        }
        names = list(next(iter(series.values())))
        if len(names) > MOST_LAYERS + 1:
            places = np.linspace(0, len(names) - 2, MOST_LAYERS).round().astype(int)
            names = [names[place] for place in places] + names[-1:]
        return histograms.histograms(
            {label: {name: of[name] for name in names} for label, of in series.items()}, BINS
        ), len(next(iter(series.values()))) - 1

    if (found := section.attempt(count)) is None:
        return section
    panels, all_layers = found
    which = "" if len(panels) > all_layers else f"; {len(panels) - 1} of {all_layers} layers"
    section.draw(
        f"Histograms of the weights that survive, after training{which}",
        lambda: figures.histograms(panels, title=""),
        wide=True,
    )
    return section


def of_layers(readings: Sequence[Reading]) -> Section:
    """Show what is left of each layer, mean over replicates."""
    section = Section("Layers")
    tables = [
        replicates.marked(reading.rows, rows)
        for reading in readings
        if (rows := section.attempt(layer_rows, reading))
    ]
    if not tables:
        return section
    rows = tables[0] if len(tables) == 1 else replicates.over_runs(tables, ("round", "layer"))
    columns = {name: about for name, about in masks.DRAWN.items() if name in rows[0]}
    by_layer = {layer: of for (layer,), of in replicates.group(rows, ("layer",)).items()}
    section.draw(
        "What is left of each layer, by the density of the network",
        lambda: figures.layers(by_layer, columns=columns, title=""),
        size=(4.2 * len(columns) + 1.4, 3.4),
        wide=len(columns) > 1,
    )
    last = rows[-1]["round"]
    section.blocks.append(Text(f"In round {last}, the last one:"))
    of_last = [row for row in rows if row["round"] == last]
    whole = {
        name: (title, form.replace(":,d", ":,.0f"))
        for name, (title, form) in masks.LAYER_COLUMNS.items()
    }
    section.add_table(of_last, whole)
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
        of_round = {"round": row["round"], "network_density": density(mask)}
        if known:
            of_layers = [
                of_round | of_layer | {"alive": 1 - of_layer["dead_outputs"] / of_layer["outputs"]}
                for of_layer in layers(mask, before)
            ]
        else:
            of_layers = [
                of_round | {"layer": p, "density": float(m.mean()), "remaining": int(m.sum())}
                for p, m in mask.items()
            ]
        found += of_layers
        before = mask
    return found


def of_overlap(readings: Sequence[Reading]) -> Section:
    """Show what the masks of rounds have in common, mean over replicates."""
    section = Section("Overlap of masks")
    if min(len(reading.rows) for reading in readings) < 2:
        section.blocks.append(Text("There is one round alone: nothing to compare yet."))
        return section
    found = [section.attempt(_overlap, reading) for reading in readings]
    matrices = [matrix for matrix in found if matrix is not None]
    if matrices:
        first = next(r for r, matrix in zip(readings, found, strict=True) if matrix is not None)
        mean = replicates.over_matrices(matrices)["mean"]
        section.draw(
            f"{masks.OVERLAP}, between all rounds, by their density",
            lambda: figures.matrix(mean, first.run, None, what=masks.OVERLAP, title=""),
            size=(4.8, 4.0),
        )
    return section


def _overlap(reading: Reading) -> Array:
    rounds = [FinishedRound(reading.run.path, row["round"]) for row in reading.rows]

    def measure() -> list[list[float]]:
        of_rounds = [of.masks() for of in rounds]
        return masks.jaccard(of_rounds, of_rounds).tolist()

    def fits(value: object) -> bool:
        return (
            isinstance(value, list)
            and len(value) == len(rounds)
            and all(isinstance(row, list) and len(row) == len(rounds) for row in value)
            and all(is_number(cell) for row in value for cell in row)
        )

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
        wide=True,
    )
    return section
