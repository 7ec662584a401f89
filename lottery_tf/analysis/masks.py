"""What masks have in common, and what they leave of each layer. NumPy and matplotlib only."""

import numpy as np

from lottery_tf.analysis import tool
from lottery_tf.analysis.matrices import densities, summaries
from lottery_tf.analysis.results import replicates
from lottery_tf.analysis.rounds import Network, check_files
from lottery_tf.method.pruning import density
from lottery_tf.output import figures


def jaccard(some, others):
    """The Jaccard overlap of each of some masks with each of others, (some, others) in [0, 1].

    Weights alive in both / weights alive in one or both; 1 where both are empty.

    Args:
        some, others: lists of {kernel path: bool array}.
    """
    both = np.zeros((len(some), len(others)))
    sizes, other_sizes = np.zeros((len(some), 1)), np.zeros((1, len(others)))
    for path in some[0]:
        rows, columns = (
            np.stack([masks[path].ravel() for masks in group]).astype(np.float32)
            for group in (some, others)
        )
        both += rows @ columns.T
        sizes += rows.sum(1, keepdims=True, dtype=np.float64)
        other_sizes += columns.sum(1, keepdims=True, dtype=np.float64).T
    either = sizes + other_sizes - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def chance(some, others):
    """The overlap to expect of random masks of these densities, (some, others)."""
    one, two = np.array(some)[:, None], np.array(others)[None]
    return one * two / (one + two - one * two)


def units(path, mask):
    """{remaining, outputs, dead_outputs, unused_inputs} of a kernel's mask.

    A dead output has no weight into it, an unused input none out of it. Kernels of dense and
    convolution layers are (…, inputs, outputs); of depthwise ones (…, channels, multiplier), each
    of which is an output of one input.
    """
    alive = mask.reshape(-1, *mask.shape[-2:]).any(0)  # (inputs, outputs)
    depthwise = "depthwise" in path.rpartition("/")[2]
    outputs = alive.size if depthwise else alive.shape[1]
    dead = int((~alive).sum()) if depthwise else int((~alive.any(0)).sum())
    return {
        "remaining": int(mask.sum()),
        "outputs": outputs,
        "dead_outputs": dead,
        "unused_inputs": int((~alive.any(1)).sum()),
    }


def layers(masks, previous=None):
    """A row per layer: {layer, density, remaining, outputs, dead_outputs, unused_inputs, state}.

    The state is "collapsed" without a weight, "collapsing" with fewer weights than outputs after
    another pruning like the last one, else "".

    Args:
        masks: {kernel path: bool array}.
        previous: those of the round before; None in round 0.
    """
    rows = []
    for path, mask in masks.items():
        row = {"layer": path, "density": float(mask.mean())} | units(path, mask)
        before = int(previous[path].sum()) if previous else row["remaining"]
        next_remaining = row["remaining"] ** 2 / before if before else 0
        row["state"] = "collapsing" if next_remaining < row["outputs"] else ""
        if not row["remaining"]:
            row["state"] = "collapsed"
        rows.append(row)
    return rows


def report(runs, other):
    """Writes, draws, logs and prints layers and overlaps of some runs.

    Args:
        runs: RunDirs.
        other: RunDir whose rounds are the columns of the overlap; None for each run's own.
    """
    suffix = f"_overlap_to_{other.path.name}" if other else "_overlap"
    tables, found = [], []
    for run in runs:
        results = tool.results(run, "masks", runs)
        masks = _masks(run)
        table = []
        for round, (mask, before) in enumerate(zip(masks, [None, *masks], strict=False)):
            about = {"round": round, "network_density": density(mask)}
            table += [about | row for row in layers(mask, before)]
        results.write_table(table, "_layers")
        pictures = {"layers": _draw_layers(results, table, run)}
        overlaps = jaccard(masks, _masks(other) if other else masks)
        pictures[suffix[1:]] = _write_overlap(results, overlaps, run, other or run, suffix)
        last = len(masks) - 1
        images = {f"masks/{name}": (last, path) for name, path in pictures.items()}
        tool.log(run, "masks" + ("" if not other else suffix), images=images)
        _show(run, table[-len(masks[0]) :], overlaps, other)
        tables.append(table)
        found.append(overlaps)
    if len(runs) > 1:
        results = tool.combined("masks", runs)
        results.write_table(replicates(tables, ("round", "layer")), "_layers")
        for name, values in summaries(found, init=False).items():
            title = f"{name} of {len(runs)} runs"
            _write_overlap(results, values, runs[0], other or runs[0], f"{suffix}_{name}", title)


def _masks(run):
    networks = [Network(str(run.path), round) for round in range(run.finished_rounds())]
    check_files(networks)
    return [network.masks() for network in networks]


def _draw_layers(results, table, run):
    by_layer = {}
    for row in table:
        alive = 1 - row["dead_outputs"] / row["outputs"]
        point = {"density": row["network_density"], "layer_density": row["density"]}
        by_layer.setdefault(row["layer"], []).append(point | {"alive": alive})
    return results.draw(
        figures.layers,
        by_layer,
        suffix="_layers",
        columns={
            "layer_density": ("density of the layer (%)", True),
            "alive": ("outputs with a weight into them (%)", False),
        },
        title=run.path.name,
        pdf=tool.PDF.value,
    )


def _write_overlap(results, overlaps, run, other, suffix, title=None):
    results.write_matrix(overlaps, *map(range, overlaps.shape), suffix)
    names = "" if other is run else f" (rows) and {other.path.name} (columns)"
    return results.draw(
        figures.matrix,
        overlaps,
        densities(run)[: len(overlaps)],
        densities(other)[: overlaps.shape[1]],
        suffix=suffix,
        what="Jaccard overlap of masks: in both / in one or both",
        limits=(0, 1),
        title=(title or run.path.name) + names,
        pdf=tool.PDF.value,
    )


def _show(run, rows, overlaps, other):
    print(f"{run.path}, round {rows[0]['round']}, density {rows[0]['network_density']:.2%}")
    columns = {
        "layer": ("layer", "{}"),
        "density": ("density", "{:.2%}"),
        "remaining": ("weights", "{:,d}"),
        "outputs": ("outputs", "{:,d}"),
        "dead_outputs": ("dead", "{:,d}"),
        "unused_inputs": ("unused inputs", "{:,d}"),
        "state": ("state", "{}"),
    }
    tool.print_table(rows, columns)
    if other:
        count = min(overlaps.shape)
        rows = [
            {
                "round": row["round"],
                "density": row["density"],
                "overlap": float(overlaps[index, index]),
                "chance": float(chance([row["density"]], [theirs["density"]])[0, 0]),
            }
            for index, (row, theirs) in enumerate(
                zip(run.metrics()[:count], other.metrics()[:count], strict=True)
            )
        ]
        columns = {
            "round": ("round", "{:d}"),
            "density": ("density", "{:.2%}"),
            "overlap": (f"overlap with {other.path.name}", "{:.3f}"),
            "chance": ("of random masks", "{:.3f}"),
        }
        tool.print_table(rows, columns)
