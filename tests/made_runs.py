"""Finished runs of random weights, that the tests make."""

import hashlib

import numpy as np

from lottery_tf.pruning.top_k import prune
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir

SHAPES = {"a/kernel": (20, 30), "b/kernel": (30, 10), "b/bias": (10,)}


def make_run(config, *, rounds=4, shapes=SHAPES, seed=0, reset="init", seconds=1.0):
    """A RunDir at config.run_dir whose rounds trained by adding noise.

    Args:
        config: Config.
        reset: "init" starts each round from W_0, "reinit" from weights of its own.
    """
    run = RunDir(config.run_dir)
    run.path.mkdir(parents=True, exist_ok=True)
    files.write_text(run.path / "config.json", config.to_json())
    files.write_text(run.path / "flags.cfg", config.to_flags())
    add_rounds(run, range(rounds), shapes=shapes, seed=seed, reset=reset, seconds=seconds)
    return run


def add_rounds(run, rounds, *, shapes=SHAPES, seed=0, reset="init", seconds=1.0):
    """Adds rounds to a run that has those before."""
    for round in rounds:
        generator = np.random.default_rng([seed, round])
        first = np.random.default_rng([seed, 0 if reset == "init" else round])
        masks = {path: np.ones(s, bool) for path, s in shapes.items() if path.endswith("kernel")}
        if round:
            masks, _ = prune(run.final(round - 1), run.masks(round - 1), 0.2)
        initial = {path: first.normal(size=s).astype(np.float32) for path, s in shapes.items()}
        final = {
            p: a + generator.normal(size=a.shape).astype(np.float32) for p, a in initial.items()
        }
        for weights in (initial, final):
            for path, mask in masks.items():
                weights[path] = np.where(mask, weights[path], np.float32(0))
        metrics = {
            "round": round,
            "density": 0.8**round,
            "threshold": 0.1 * (round + 1),
            "test_accuracy": 0.9 - 0.01 * round,
            "seconds": seconds,
        }
        run.save_round(
            round, masks=masks, initial=initial, final=final, history=[metrics], metrics=metrics
        )


def set_metrics(run, round, **values):
    """Gives the metrics of a round other values, or further columns."""
    directory, row = run.round_path(round), run.metrics_of(round)
    before = hashlib.sha256((directory / "metrics.csv").read_bytes()).hexdigest()
    table = files.format_csv([row | values])
    (directory / "metrics.csv").write_bytes(table)
    sums = (directory / "SHA256SUMS").read_text()
    after = hashlib.sha256(table).hexdigest()
    # The history of a made-up round is its metrics: the same digest.
    name = "  metrics.csv"
    (directory / "SHA256SUMS").write_text(sums.replace(before + name, after + name))
