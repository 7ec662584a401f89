"""Stability to pruning and to data order (Frankle et al. 2019). NumPy and matplotlib only.

With A(W, u) as training from W with the SGD noise u, m a mask, and W_t where training starts:

    stability to pruning      distance between m * A(W_t, u) and A(m * W_t, u)
    stability to data order   distance between A(m * W_t, u) and A(m * W_t, u')

on the weights in m. A lower distance is more stable. The control is a random mask of the same
density in each layer.
"""

import functools

import numpy as np

from lottery_tf.analysis import tool
from lottery_tf.analysis.distances import between
from lottery_tf.analysis.results import means
from lottery_tf.analysis.rounds import Network, check_files
from lottery_tf.method import streams
from lottery_tf.method.pruning import density
from lottery_tf.output import figures

MASKS = ("ticket", "random")
# Frankle et al. 2019, LeNet on MNIST at density 10.7%: (mask, measure, column): value
PUBLISHED_DENSITY = 0.107
PUBLISHED = {
    ("ticket", "pruning", "l2"): 48.1,
    ("random", "pruning", "l2"): 75.7,
    ("ticket", "pruning", "degrees"): 53.1,
    ("random", "pruning", "degrees"): 83.6,
    ("ticket", "data order", "l2"): 20.7,
    ("random", "data order", "l2"): 58.6,
    ("ticket", "data order", "degrees"): 22.7,
    ("random", "data order", "degrees"): 49.2,
}


def random_masks(masks, generator):
    """Random masks of the same density in each layer.

    Args:
        masks: {kernel path: bool array}.
        generator: np.random.Generator.
    """
    return {
        path: generator.permutation(mask.ravel()).reshape(mask.shape)
        for path, mask in masks.items()
    }


def compare(some, other, masks):
    """{l2, degrees} between two networks {path: array} on the weights in masks."""
    products = between(some, other, (masks, masks))
    return {
        "l2": float(products.euclidean()[0, 0]),
        "degrees": float(90 * products.angular()[0, 0]),
    }


def report(runs, at_rounds, *, replicates, train, options):
    """Writes and prints the stability of some rounds of runs.

    Args:
        runs: RunDirs.
        at_rounds: of each run, the rounds.
        replicates: how often each is measured, with noise and random masks of their own.
        train: a function of (run, masks, round, replicate, which of its two noises 0 or 1, the
            masks' name) -> (weights, history).
        options: {name: value} that results depend on.
    """
    suffix = "" if options["start"] == "init" else f"_{options['start'].replace(':', '_')}"
    tables = []
    for run, chosen in zip(runs, at_rounds, strict=True):
        results = tool.results(run, "stability", runs)
        rows = []
        for round in chosen:
            network = Network(str(run.path), round)
            for replicate in range(replicates):
                compute = functools.partial(measure, run, network, replicate, train)
                rows += results.reuse([network], [options, replicate], compute)
        results.write_table(rows, suffix)
        by = ("round", "mask", "measure")
        scalars = {}
        for row in means(rows, by):
            for column in ("l2", "degrees"):
                tag = f"stability{suffix}/{row['measure']} {column} {row['mask']}"
                scalars.setdefault(tag, []).append((row["round"], row[column]))
        pictures = draw(results, suffix, means(rows, by), run.path.name)
        images = {f"stability{suffix}/{name}": (chosen[-1], p) for name, p in pictures.items()}
        tool.log(run, f"stability{suffix}", scalars=scalars, images=images)
        tables += rows
    rows = means(tables, ("round", "mask", "measure"))
    if len(runs) > 1:
        results = tool.combined("stability", runs)
        results.write_table(rows, suffix)
        draw(results, suffix, rows, f"mean of {len(runs)} runs, min and max")
    config = runs[0].config()
    show(rows, published=(config["model"], config["dataset"], suffix) == ("lenet", "mnist", ""))


def draw(results, suffix, rows, title):
    """Draws the distances of ticket and random masks; returns {column: picture}."""
    pictures = {}
    for column, what in (("l2", "L2 distance"), ("degrees", "angle (degrees)")):
        curves = {
            f"{mask}, to {measure}": (
                [row for row in rows if (row["mask"], row["measure"]) == (mask, measure)],
                column,
            )
            for measure in ("pruning", "data order")
            for mask in MASKS
        }
        pictures[column] = results.draw(
            figures.against_density,
            curves,
            suffix=f"_{column}{suffix}",
            what=what,
            title=title,
            pdf=tool.PDF.value,
        )
    return pictures


def measure(run, network, replicate, train):
    """A row for each mask and measure."""
    check_files([network])
    ticket, round = network.masks(), network.round
    generator = streams.random_masks(run.config()["init_seed"], round, replicate)
    dense = {path: np.ones_like(mask) for path, mask in ticket.items()}
    whole, _ = train(run, dense, round, replicate, 0, "dense")
    rows = []
    for name, masks in zip(MASKS, (ticket, random_masks(ticket, generator)), strict=True):
        some, history = train(run, masks, round, replicate, 0, name)
        other, _ = train(run, masks, round, replicate, 1, name)
        about = {"round": round, "density": density(masks), "replicate": replicate, "mask": name}
        accuracy = {"test_accuracy": history[-1]["test_accuracy"]}
        for kind, against in (("pruning", whole), ("data order", other)):
            rows.append(about | {"measure": kind} | compare(some, against, masks) | accuracy)
    return rows


def show(rows, published):
    """Prints the means, with least and most, and what was published for LeNet."""
    for row in rows:
        for column, digits in (("l2", 2), ("degrees", 1)):
            low, high = row[f"{column}_min"], row[f"{column}_max"]
            row[f"{column}_range"] = f"{low:.{digits}f} to {high:.{digits}f}"
            near = abs(row["density"] - PUBLISHED_DENSITY) < 0.01
            found = PUBLISHED[row["mask"], row["measure"], column] if near else float("nan")
            row[f"{column}_published"] = found
    columns = {
        "round": ("round", "{:d}"),
        "density": ("density", "{:.1%}"),
        "mask": ("mask", "{}"),
        "measure": ("stability to", "{}"),
        "l2": ("L2", "{:.2f}"),
        "l2_range": ("min to max", "{}"),
        "l2_published": ("published", "{:.1f}"),
        "degrees": ("degrees", "{:.1f}"),
        "degrees_range": ("min to max", "{}"),
        "degrees_published": ("published", "{:.1f}"),
        "test_accuracy": ("test acc", "{:.2%}"),
    }
    if not published:
        columns = {name: c for name, c in columns.items() if not name.endswith("published")}
    tool.print_table(rows, columns)
    if published:
        print("Published: Frankle et al. 2019, LeNet on MNIST at density 10.7%.")
