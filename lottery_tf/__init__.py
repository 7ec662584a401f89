"""Lottery tickets by iterative magnitude pruning, in Keras 3 on TensorFlow.

For any Keras model: masked(model), prune(model, fraction), rounds(model, rounds, fraction).
"""

__version__ = "0.1.0"
__all__ = ["masked", "prune", "rounds"]


def __getattr__(name):
    # Only who asks for these needs Keras: pruning, rundir and the tools on files do without.
    if name in __all__:
        from lottery_tf import any_model

        return getattr(any_model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
