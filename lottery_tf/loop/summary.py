"""`summary`: what masks leave of each layer of a model."""

import math

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.loop.checks import Coverage, check_built
from lottery_tf.masking import Kernel
from lottery_tf.plots import Row, tables
from lottery_tf.pruning import Array
from lottery_tf.pruning.dead_units import count_alive, gates, kind_by_name

COLUMNS = {
    "layer": ("layer", "{}"),
    "weights": ("weights", "{:,d}"),
    "alive": ("alive", "{:,d}"),
    "density": ("density", "{:.2%}"),
    "units": ("units", "{:,d}"),
    "dead_units": ("dead units", "{:,d}"),
    "state": ("", "{}"),
}


def summary(model: keras.Model, *, show: bool = True) -> list[Row]:
    """Print the kernels of a masked model as a table, and return its rows.

    Args:
        model: a built model with masks.
        show: whether to print the table.

    Returns:
        A row for each kernel, and one for all of them together: {layer, weights, alive, density,
        units, dead_units, state}. A dead unit has no weight into it; a dead unit of a recurrent
        layer has none into any of its gates in this kernel. Units are NaN for a kernel without a
        mask. The state is "frozen", "no mask", "collapsed" (no weight is left), or "".

    Raises:
        InputError: this is no Keras model, it is not built, or it has no masks.
    """
    check_built(model, "summary")
    kernels, kinds = masking.kernels(model), masking.kernel_kinds(model)
    sizes = Coverage.kernels_of(model)
    shapes = {path: tuple(kernel.variable.shape) for path, kernel in kernels.items()}
    rows: list[Row] = []
    for path, size in sizes.items():
        row: Row = {"layer": path, "weights": size, "alive": size}
        units: Row = {"units": math.nan, "dead_units": math.nan, "state": "no mask"}
        if path in kernels:
            kind = kinds.get(path, kind_by_name(path))
            found = count_alive(_oriented(kernels[path]), kind, gates=gates(path, shapes))
            row["alive"] = found["remaining"]
            units = {"units": found["outputs"], "dead_units": found["dead_outputs"]}
            units["state"] = _state(kernels[path], row["alive"])
        rows.append(row | {"density": row["alive"] / size} | units)
    weights, alive = (sum(row[name] for row in rows) for name in ("weights", "alive"))
    total: Row = {"layer": "all kernels", "weights": weights, "alive": alive}
    rows.append(total | {"density": alive / weights, "units": math.nan, "dead_units": math.nan,
                         "state": ""})  # fmt: skip
    if show:
        tables.show(rows, COLUMNS)
    return rows


def _state(kernel: Kernel, alive: int) -> str:
    if not alive:
        return "collapsed"
    return "" if kernel.variable.trainable else "frozen"


def _oriented(kernel: Kernel) -> Array:
    """Return a mask as (…, inputs, outputs), or as `count_alive` knows its kind of kernel."""
    mask = kernel.mask.numpy()
    if not isinstance(kernel.layer, keras.layers.EinsumDense):
        return mask
    operands, output = kernel.layer.equation.split("->")
    of_kernel = operands.split(",")[1].strip()
    outputs = [axis for axis, letter in enumerate(of_kernel) if letter in output]
    moved = np.moveaxis(mask, outputs, range(-len(outputs), 0)) if outputs else mask
    return moved.reshape(-1, math.prod(mask.shape[axis] for axis in outputs))
