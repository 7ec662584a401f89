"""The largest eigenvalue of the Hessian at the ends of rounds. NumPy, SciPy and matplotlib only.

Of the mean cross-entropy over the first training examples, unaugmented and without weight decay,
with respect to the weights that are alive and all other trainable variables. Found by Lanczos
iterations on products with the Hessian. What is not known from before imports TensorFlow.
"""

import functools

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from lottery_tf.analysis import loading, replicates
from lottery_tf.analysis.cache import Cache, is_number
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Computing,
    Groups,
    Rounds,
    as_groups,
    check_at_least,
    metrics_with,
    select_rounds,
)
from lottery_tf.plots import Row, figures
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

EXAMPLES = 1000
TOLERANCE = 1e-4  # of an eigenvalue, relative; float32 gives little more
COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "eigenvalue": ("largest eigenvalue", "{:.3f}"),
    "eigenvalue_min": ("min", "{:.3f}"),
    "eigenvalue_max": ("max", "{:.3f}"),
}


def largest_eigenvalue(hessian: LinearOperator) -> float:
    """The largest eigenvalue, by sign, of a symmetric operator of three dimensions or more."""
    # The start is the same each time, so that the result is.
    start = np.ones(hessian.shape[0])
    values = eigsh(hessian, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)
    return float(values[0])


def of_rounds(
    runs: RunDir | Groups,
    *,
    at_rounds: Rounds = (),
    examples: int = EXAMPLES,
    cache: Cache | None = None,
    computing: Computing | None = None,
) -> list[Row]:
    """Rows of {run, round, density, test_accuracy, eigenvalue} of a run, or of {label: runs}.

    Of several runs of a label, as replicates, the means with min and max.

    Args:
        runs: of one model and dataset.
        at_rounds: the rounds; by default all.
        examples: how many of the training split, from its beginning.
        cache: holds what was computed before; by default all is computed.
        computing: where and how, as loading.engine_of takes it.

    Raises:
        InputError: a round is not there, or a file is damaged.
    """
    check_at_least(1, examples=examples)
    groups, cache, rows = as_groups(runs), cache or Cache(), []
    first = next(iter(groups.values()))[0]
    hessian = functools.cache(lambda: _hessian(first, examples, computing or {}))
    for label, group in groups.items():
        tables = [_of_run(run, at_rounds, examples, cache, hessian) for run in group]
        averaged = replicates.of_runs(group, tables, ("round",))
        rows += [{"run": label} | row for row in averaged]
    return rows


def _of_run(run, at_rounds, examples, cache, hessian):
    def compute(of):
        return largest_eigenvalue(hessian().at(of.final(), of.masks()))

    rows, metrics = [], metrics_with(run, "density", "test_accuracy")
    for round in console.progress(select_rounds(run, at_rounds), "rounds"):
        of, options = FinishedRound(run.path, round), ["largest eigenvalue", examples, TOLERANCE]
        row = {name: metrics[round][name] for name in ("round", "density", "test_accuracy")}
        eigenvalue = cache.reuse([of], options, compute, of, fits=is_number)
        rows.append(row | {"eigenvalue": eigenvalue})
    return rows


def _hessian(run, examples, computing):
    engine = loading.engine_of(run, **computing)  # it imports TensorFlow, without its messages
    from lottery_tf.masking.gradients import Hessian

    images, labels = [], []
    for some, numbers in engine.feed.train_batches():
        images.append(np.asarray(some))
        labels.append(np.asarray(numbers))
        if sum(map(len, labels)) >= examples:
            break
    inputs = engine.normalise(np.concatenate(images)[:examples])
    return Hessian(engine.network, inputs, np.concatenate(labels)[:examples])


def report_curvature(groups: Groups, output: Output, *, at_rounds: Rounds = (),
                     examples: int = EXAMPLES, computing: Computing) -> list[Row]:  # fmt: skip
    """Writes, draws and logs the rows of `of_rounds` with the first run, and returns them."""
    for run in (run for group in groups.values() for run in group):  # before the first is computed
        select_rounds(run, at_rounds)

    def measure(_, cache):
        options = {"at_rounds": at_rounds, "examples": examples, "computing": computing}
        return of_rounds(groups, cache=cache, **options)

    def findings(first, rows, title):
        by_label = replicates.group(rows, ("run",))
        curves = {label: (of, "eigenvalue") for (label,), of in by_label.items()}
        what = "largest eigenvalue of the Hessian"
        figure = figures.against_density(curves, what=what, title=title)
        picture = {"curvature/eigenvalue": (first.finished_rounds() - 1, "", figure)}
        logged = [(row["round"], row["eigenvalue"]) for row in next(iter(by_label.values()))]
        curve = {"curvature/eigenvalue": ("eigenvalue", logged)}
        return [Findings("curvature", {"": rows}, picture, curve)]

    first = next(iter(groups.values()))[0]
    return report("curvature", [first], output, measure, findings)
