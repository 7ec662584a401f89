"""The repellent loss J_r of Maene et al. 2021, section 3, and its gradient in closed form.

With v the surviving weights, u_i the unit vector of the i-th optimum on the survivors and
c_i = u_i . v / |v|:

    J_r = strength / k * sum_i c_i^2
    gradient = 2 strength / (k |v|) * sum_i c_i (u_i - c_i v / |v|)

--repel_scope=layer is the mean over kernels of this, each kernel with cosines of its own. Weighted
by an importance F_i, u_i . v becomes sum F_i u_i v, and |v|^2 sum F_i v^2.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lottery_tf.pruning import Array
from lottery_tf.repulsion.optima import Optima

Tensors = dict[str, tf.Tensor]  # {kernel path: tensor}
Held = dict[str, Tensors]  # {kernel path: {part of the Optima: tensor}}


def to_devices(optima: Optima | None, copies: Callable[[Array], Any]) -> Held:
    """Return Optima on each device, as value_and_gradients takes them; {} of None.

    `copies` returns an array on each device, as training.devices.Cluster.copies.
    """
    if optima is None:
        return {}
    parts = ("index", "directions", "importance")
    arrays = {part: getattr(optima, part) for part in parts if getattr(optima, part)}
    return {
        path: {part: copies(of_kernel[path]) for part, of_kernel in arrays.items()}
        for path in optima.index
    }


def value_and_gradients(
    kernels: Tensors,
    optima: Held,
    *,
    strength: float,
    scope: str,
    onto: Tensors | None = None,
    factor: float = 1.0,
) -> tuple[tf.Tensor, Tensors]:
    """Return J_r and its gradients, (J_r, {path: gradient}).

    Args:
        kernels: {path: float32 kernel}, zero where masked.
        optima: {path: {"index": int32 (s,), "directions": float32 (k, s), and perhaps "importance":
            float32 (k, s)}} of every prunable kernel, as optima.Optima holds them.
        strength, scope: lambda_r, where positive repels; "global" or "layer".
        onto: {path: gradient} to add factor * J_r's gradients to; zeros by default. Adding at the
            places of the surviving weights alone saves two passes over the kernels.
    """
    alive = gather(kernels, optima)
    dots, squares = products(alive, optima, scope=scope)
    value, compacted = combine(alive, optima, dots, squares, strength=strength, scope=scope)
    gradients = {}
    for path, held in optima.items():
        shape = kernels[path].shape
        dense = tf.reshape(onto[path], [-1]) if onto else tf.zeros(shape.num_elements())
        places = held["index"][:, tf.newaxis]
        dense = tf.tensor_scatter_nd_add(dense, places, factor * compacted[path])
        gradients[path] = tf.reshape(dense, shape)
    return value, gradients


def gather(kernels: Tensors, optima: Held) -> Tensors:
    """Return {path: (s,)}, the surviving weights."""
    return {
        path: tf.gather(tf.reshape(kernels[path], [-1]), held["index"])
        for path, held in optima.items()
    }


def products(alive: Tensors, optima: Held, *, scope: str) -> tuple[Tensors, Tensors]:
    """Return {path: (k,)} of the dot products with the optima, and of the squared norms."""
    dots: Tensors = {}
    squares: Tensors = {}
    for path, held in optima.items():
        directions, weights = held["directions"], alive[path]
        if "importance" in held:
            dots[path] = tf.linalg.matvec(directions * held["importance"], weights)  # (k,)
            squares[path] = tf.linalg.matvec(held["importance"], weights**2)
        else:
            dots[path] = tf.linalg.matvec(directions, weights)
            squares[path] = tf.fill([directions.shape[0]], tf.reduce_sum(weights**2))
    if scope == "global":
        total_dots, total_squares = tf.add_n(list(dots.values())), tf.add_n(list(squares.values()))
        dots = dict.fromkeys(dots, total_dots)
        squares = dict.fromkeys(squares, total_squares)
    return dots, squares


def combine(
    alive: Tensors, optima: Held, dots: Tensors, squares: Tensors, *, strength: float, scope: str
) -> tuple[tf.Tensor, Tensors]:
    """Return (J_r, {path: (s,)}), the gradients at the surviving weights."""
    parts = len(optima) if scope == "layer" else 1
    compacted, mean_squares = {}, []
    for path, held in optima.items():
        share = strength / (held["directions"].shape[0] * parts)
        inverse = tf.math.divide_no_nan(1.0, tf.sqrt(squares[path]))  # (k,)
        cosines = dots[path] * inverse
        mean_squares.append(cosines**2)
        towards = 2 * share * cosines * inverse  # (k,), of u_i
        along = 2 * share * (cosines * inverse) ** 2  # (k,), of v
        if "importance" in held:
            gradient = _weighted_sum(towards, held["directions"] * held["importance"])
            gradient -= _weighted_sum(along, held["importance"]) * alive[path]
        else:
            gradient = _weighted_sum(towards, held["directions"])
            gradient -= tf.reduce_sum(along) * alive[path]
        compacted[path] = gradient
    return strength * tf.reduce_mean(tf.stack(mean_squares)), compacted


def _weighted_sum(coefficients: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return sum_i coefficients[i] * rows[i], unrolled so that XLA fuses it; a product is slow."""
    total = coefficients[0] * rows[0]
    for index in range(1, rows.shape[0]):
        total += coefficients[index] * rows[index]
    return total
