"""Collect what claims of later work were tested with: python docs/figures/later.py runs [NAME …].

It reads the studies random_masks, random_labels, clones and headline in a directory of runs, and
what `docs/figures/make.sh measure` has computed of them, and writes random_masks.csv,
random_labels.csv, clones.csv, cyclic_once.csv and one_weight.csv: a row for each seed. What has not
been computed yet is computed, which trains.
"""

import csv
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from lottery_tf.analysis import cyclic, instability, pixels
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.runs.rundir import RunDir

HERE = pathlib.Path(__file__).parent
SEEDS = {
    512: range(5),
    60: (0, 4, 6, 7, 11),
}  # of batch 60, those whose dense networks are the best
STARTS = ("init", "rewind:1ep", "rewind:5ep")
FLAGS = ("criterion", "reset", "seed", "round", "density", "train_accuracy", "test_accuracy")


def study(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the rounds of the runs of a study that are finished, each with FLAGS."""
    for path in sorted(directory.glob("*/metrics.csv")):
        run = RunDir(path.parent)
        if run.finished_rounds() == 8:
            for row in run.metrics():
                found = run.config() | row
                yield {name: found[name] for name in FLAGS} | {"collapsed": int(has_collapsed(row))}


def ticket(runs: pathlib.Path, seed: int, batch_size: int) -> RunDir:
    """Return a ticket of the study headline."""
    return RunDir(runs / "headline" / f"seed={seed}_batch_size={batch_size}_reset=init")


def cache(run: RunDir, name: str) -> Cache:
    """Return what a tool has computed of a run."""
    return Cache(run.path / "analysis" / f"{name}.cache.json")


def cycles(runs: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of tools.cyclic, with their seeds, and IMP's last round."""
    for seed in SEEDS[512]:
        run = ticket(runs, seed, 512)
        known = cache(run, "cyclic")
        for row in cyclic.of_masks(run, at_rounds=["7"], once_from=0.2, cache=known):
            yield {"seed": seed} | row
        yield {"seed": seed} | row | {"mask": "IMP", "test_accuracy": row["imp_accuracy"]}


def one_weight(runs: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the instability of dense networks to one weight, with batch size and seed."""
    for batch_size, seeds in SEEDS.items():
        for seed in seeds:
            run = ticket(runs, seed, batch_size)
            for start in STARTS:
                known = cache(run, "instability")
                options = {"at_rounds": ["0"], "points": 11, "cache": known}
                for row in instability.of_rounds(run, noise="one_weight", start=start, **options):
                    names = ("round", "density", "instability", "collapsed")
                    about = {"batch_size": batch_size, "seed": seed, "start": start}
                    yield about | {name: row[name] for name in names}


def fields(runs: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the receptive fields of tickets on images, and on their clones."""
    for seed in SEEDS[512]:
        both = {
            "images": ticket(runs, seed, 512),
            "clones": RunDir(runs / "clones" / f"seed={seed}"),
        }
        for name, run in both.items():
            for row in pixels.of_rounds(run):
                accuracy = run.metrics()[row["round"]]["test_accuracy"]
                found = {column: row[column] for column in ("round", "density", "neighbours")}
                yield {"seed": seed, "data": name} | found | {"test_accuracy": accuracy}


def write(name: str, found: Iterable[dict[str, Any]]) -> None:
    rows = list(found)
    with open(HERE / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


TABLES = {
    "random_masks": lambda runs: study(runs / "random_masks"),
    "random_labels": lambda runs: study(runs / "random_labels"),
    "clones": fields,
    "cyclic_once": cycles,
    "one_weight": one_weight,
}


def main(directory: str, *names: str) -> None:
    for name in names or TABLES:
        write(name, TABLES[name](pathlib.Path(directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
