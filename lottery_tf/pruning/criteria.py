"""By which score weights are pruned. NumPy only.

A criterion is a function of the scoring inputs that its parameters name. For one kernel, each is an
array of its shape. It returns the scores, and the weights with the lowest are pruned:

    trained                   the weights at the end of the round; before training, its start
    initial                   the weights that the round started from
    trained_gradient          the gradient of the mean loss of a fixed sample at `trained`
    initial_gradient          the same at `initial`
    initial_hessian_gradient  the product of the loss's Hessian and its gradient at `initial`
    initial_flow              the derivative by |w| of the sum of the outputs for an input of ones,
                              where all weights are |initial|
    input_norm                the L2 norm of what the weight multiplies, over a sample of inputs, at
                              `trained`
    uniform                   random numbers in [0, 1), a function of (init_seed, round)
"""

import inspect
from collections.abc import Callable, Mapping

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, Masks, Weights


def magnitude(trained: Array) -> Array:
    """|w_T| in float32 (Frankle & Carbin 2019)."""
    return np.abs(trained.astype(np.float32, copy=False))


def large_init(initial: Array) -> Array:
    """|w_0| (Zhou et al. 2019)."""
    return np.abs(initial)


def magnitude_increase(trained: Array, initial: Array) -> Array:
    """|w_T| - |w_0| (Zhou et al. 2019)."""
    return np.abs(trained) - np.abs(initial)


def movement(trained: Array, initial: Array) -> Array:
    """|w_T - w_0| (Zhou et al. 2019)."""
    return np.abs(trained - initial)


def random(uniform: Array) -> Array:
    """Random scores: the control."""
    return uniform


def taylor(trained: Array, trained_gradient: Array) -> Array:
    """|w_T g|, what the loss changes by to first order (Molchanov et al. 2017)."""
    return np.abs(trained * trained_gradient)


def snip(initial: Array, initial_gradient: Array) -> Array:
    """|w g| at the start, the sensitivity of the loss to the connection (Lee et al. 2019)."""
    return np.abs(initial * initial_gradient)


def grasp(initial: Array, initial_hessian_gradient: Array) -> Array:
    """w (H g), signed: what goes would lower the norm of the gradient (Wang et al. 2020)."""
    return initial * initial_hessian_gradient


def synflow(initial: Array, initial_flow: Array) -> Array:
    """|w| dR/d|w|, the part of the flow R through the weight (Tanaka et al. 2020)."""
    return np.abs(initial) * initial_flow


def wanda(trained: Array, input_norm: Array) -> Array:
    """|w_T| times the norm of its input over a sample (Sun et al. 2023)."""
    return np.abs(trained) * input_norm


CRITERIA: dict[str, Callable[..., Array]] = {
    "magnitude": magnitude,
    "large_init": large_init,
    "magnitude_increase": magnitude_increase,
    "movement": movement,
    "random": random,
    "taylor": taylor,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "wanda": wanda,
}

# Prunings by which a density is reached, each with new scores, where it is not one.
ITERATIONS = {"synflow": 100}
# Where the scores of a criterion compete, if not over all layers.
DEFAULT_SCOPES = {"wanda": "output", "sparsegpt": "layer"}

# Statistics that BatchNorm takes where FROM_LOSS are computed before training.
EVIDENCE_BN = ("batch", "running")
# What a criterion may be a function of.
INPUTS = ("trained", "initial", "trained_gradient", "initial_gradient",
            "initial_hessian_gradient", "initial_flow", "input_norm", "uniform")  # fmt: skip
# Those that are computed from the loss on a sample of data.
FROM_LOSS = {"trained_gradient", "initial_gradient", "initial_hessian_gradient"}
FROM_DATA = FROM_LOSS | {"input_norm"}
Criterion = str | Callable[..., Array]  # a key of CRITERIA, or a function like them


def function_of(criterion: Criterion) -> Callable[..., Array]:
    """Return the function that a criterion is.

    Raises:
        InputError: an unknown criterion.
    """
    if callable(criterion):
        return criterion
    if criterion not in CRITERIA:
        raise InputError(f"criterion: expected one of {list(CRITERIA)}. Received: {criterion}")
    return CRITERIA[criterion]


def needs(criterion: Criterion) -> set[str]:
    """Return the names of a criterion's scoring inputs: its parameters without a default.

    Raises:
        InputError: an unknown criterion, or a parameter that is not a scoring input.
    """
    function = function_of(criterion)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of functions that are compiled
        parameters = []
    names = {one.name for one in parameters if one.default is inspect.Parameter.empty}
    if not names or names - set(INPUTS):
        raise InputError(
            f"criterion: expected a function whose parameters are among {', '.join(INPUTS)}. "
            f"Received: {name_of(criterion)}({', '.join(one.name for one in parameters)})"
        )
    return names


def name_of(criterion: Criterion) -> str:
    """Return a criterion's key, or module and name of the function that it is."""
    if isinstance(criterion, str):
        return criterion
    name = getattr(criterion, "__qualname__", type(criterion).__qualname__)
    return f"{getattr(criterion, '__module__', '')}.{name}"


def iterations(criterion: Criterion) -> int:
    """Return the prunings by which a density is reached, unless the user says another number."""
    return ITERATIONS.get(criterion, 1) if isinstance(criterion, str) else 1


def scope(criterion: Criterion) -> str:
    """Return where scores compete, unless the user says another scope."""
    named = criterion if isinstance(criterion, str) else ""
    return DEFAULT_SCOPES.get(named, "global")


def scores(
    criterion: Criterion, inputs: Mapping[str, Callable[[Masks], Weights]], masks: Masks
) -> Weights:
    """Return the score of every prunable weight.

    Args:
        criterion: a key of CRITERIA, or a function like them.
        inputs: {name: a function of the masks that returns {path: array}}; what the criterion does
            not name is not computed.
        masks: {kernel path: bool array}.

    Returns:
        {kernel path: array of the kernel's shape}.

    Raises:
        InputError: an unknown criterion, an input that is not there, a weight that is not finite,
            or scores of another shape, or that cannot be compared.
    """
    wanted = needs(criterion)
    if missing := sorted(wanted - inputs.keys()):
        raise InputError(
            f"criterion: {name_of(criterion)} needs {', '.join(missing)}, which is not there. "
            f"Received: {', '.join(inputs)}"
        )
    gathered = {name: inputs[name](masks) for name in wanted}
    found = {}
    for path in masks:
        arrays = {name: arrays[path] for name, arrays in gathered.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InputError(f"Cannot prune {path}: its {name} holds a number that is not "
                                 "finite.")  # fmt: skip
        found[path] = np.asarray(function_of(criterion)(**arrays))
        if found[path].shape != masks[path].shape or np.isnan(found[path]).any():
            raise InputError(
                f"criterion: expected numbers of the shape {masks[path].shape}, that of {path}. "
                f"{name_of(criterion)} gave {_in_words(found[path])}."
            )
    return found


def _in_words(scores: Array) -> str:
    return f"the shape {scores.shape}" if not np.isnan(scores).any() else "NaN"
