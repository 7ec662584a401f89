"""The straight path between two networks: how it is evaluated, and its barrier.

NumPy only; what `evaluator` gives imports TensorFlow when it is first called.
"""

import functools

import numpy as np

from lottery_tf.analysis.runs import bn_stats_of

MEASURES = {"error": ("error (%)", True), "loss": ("cross-entropy", False)}
# Options that a file's name need not tell.
USUAL = {"split": ("test",), "bn_stats": ("recompute", "none"), "align": ("none",)}


def barrier(values) -> tuple[float, float]:
    """The barriers of values on a path: (above the mean of the ends, above the larger end)."""
    values = np.asarray(values, np.float64)
    ends, highest = (values[0], values[-1]), values.max()
    return float(highest - sum(ends) / 2), float(highest - max(ends))


def summarize(points) -> dict:
    """{error_barrier, error_barrier_larger_end, and those of the loss} of the rows of a path."""
    row = {}
    for measure in MEASURES:
        mean, larger = barrier([point[measure] for point in points])
        row |= {f"{measure}_barrier": mean, f"{measure}_barrier_larger_end": larger}
    return row


def evaluator(engine, *, points, split, bn_stats, align="none"):
    """A function of two networks' weights -> rows of {alpha, loss, error} of the path between.

    Args:
        engine: a function that gives an Engine; it is called, once, when first needed.
        points, split, bn_stats, align: as the flags.
    """

    @functools.cache
    def paths():
        of = engine()  # it imports TensorFlow, without its messages
        from lottery_tf.analysis.path_evaluator import PathEvaluator

        return PathEvaluator(of, points=points, split=split, bn_stats=bn_stats)

    def evaluate(start, end):
        if align == "permutation":
            network = paths().network
            from lottery_tf.analysis import alignment, symmetries

            end = alignment.align(symmetries.find(network), start, end)
        return paths().evaluate(start, end)

    return evaluate


def options_of(run, **options):
    """The options that results depend on; bn_stats is "none" where there is no BatchNorm."""
    return options | {"bn_stats": bn_stats_of(run, options["bn_stats"])}


def suffix_of(options) -> str:
    """The part of a file's name that tells the options that are not the usual ones."""
    told = {name: options[name] for name in USUAL if name in options}
    return "".join(f"_{value}" for name, value in told.items() if value not in USUAL[name])


def about_options(options) -> str:
    """The part of a title that tells where and how paths were evaluated."""
    return f"{options['split']} split, BatchNorm statistics: {options['bn_stats']}"
