"""What the kernels of masked layers multiply in a forward pass, for criteria of calibration data.

`watched` shows the inputs of layers while a model computes. `squares` and `gram` sum up what they
say of each weight, so that no activation is kept.
"""

import contextlib
import itertools
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf.masking.network import kernels
from lottery_tf.pruning import Array

layers = keras.layers
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
PRODUCTS = (layers.Dense, layers.EinsumDense)
KNOWN = (*PRODUCTS, *CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)


def plain(layer: Any) -> type:
    """Return the Keras class of a masked layer: exactly the classes of KNOWN are known."""
    return layer.plain


@contextlib.contextmanager
def watched(
    watching: Iterable[keras.Layer], see: Callable[[keras.Layer, Any], None]
) -> Iterator[None]:
    """While it is open, each call of some layers begins with see(layer, its input).

    It does not matter what calls them: a functional model, a `call` of the user's, another layer.
    """
    changed = []
    try:
        for layer in watching:
            changed.append(layer)
            vars(layer)["call"] = _seeing(layer, layer.call, see)
        yield
    finally:
        for layer in changed:
            del vars(layer)["call"]  # that of the class holds again


def _seeing(layer: Any, call: Callable, see: Callable[[Any, Any], None]) -> Callable:
    def seeing(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        see(layer, inputs)
        return call(inputs, *args, **kwargs)

    return seeing


def output_axes(model: keras.Layer) -> dict[str, tuple[int, ...]]:
    """Return {kernel path: the axes of the kernel that tell its output units apart}."""
    return {
        path: _output_axes(kernel.layer, kernel.variable.name, len(kernel.variable.shape))
        for path, kernel in kernels(model).items()
    }


def _output_axes(layer: Any, name: str, rank: int) -> tuple[int, ...]:
    kind = plain(layer)
    if kind is layers.EinsumDense:
        _, own, out = _letters(layer.equation, None)
        return tuple(axis for axis, letter in enumerate(own) if letter in out) or (rank - 1,)
    if kind in TRANSPOSED:
        return (rank - 2,)
    if kind in DEPTHWISE or (kind in SEPARABLE and name == "depthwise_kernel"):
        return (rank - 2, rank - 1)
    return (rank - 1,)


def squares(layer: Any, inputs: Any) -> dict[str, Array]:
    """Return {name of a kernel: sums of squares of what each weight multiplies in a call}.

    They are float64, and have the shape of the kernel, or one that broadcasts to it.
    """
    kind, array = plain(layer), to_numpy(inputs)
    if kind in PRODUCTS:
        own, given, _, array = _reduced(layer, array)
        shared = "".join(letter for letter in own if letter in given)
        sums = np.einsum(f"{given},{given}->{shared}", array, array, dtype=np.float64)
        sizes = iter(sums.shape)
        return {"kernel": sums.reshape([next(sizes) if c in given else 1 for c in own])}
    channels = _channels_last(layer, array)
    if kind in CONVOLUTIONS:
        taps, groups = _taps(layer, channels), layer.groups
        if groups > 1:  # (*taps, groups, inputs of one) -> (*taps, inputs of one, outputs)
            taps = np.moveaxis(taps.reshape(*taps.shape[:-1], groups, -1), -2, -1)
            return {"kernel": np.repeat(taps, layer.filters // groups, axis=-1)}
        return {"kernel": taps[..., np.newaxis]}
    if kind in TRANSPOSED:
        return {"kernel": _taps_of_transposed(layer, channels)[..., np.newaxis, :]}
    if kind in DEPTHWISE:
        return {"kernel": _taps(layer, channels)[..., np.newaxis]}
    assert kind in SEPARABLE, f"{layer.name} is one of KNOWN"
    between = to_numpy(_depthwise(layer, inputs))
    sums = _squares_of_channels(_channels_last(layer, between))
    sums = sums.sum(axis=tuple(range(sums.ndim - 1)))
    ones = (1,) * len(layer.kernel_size)
    return {
        "depthwise_kernel": _taps(layer, channels)[..., np.newaxis],
        "pointwise_kernel": sums.reshape(*ones, -1, 1),
    }


def gram(layer: Any, inputs: Any) -> Array:
    """Return X^T X of a call of a Dense or EinsumDense, float64 (products, inputs, inputs).

    An EinsumDense whose kernel shares a letter with both its input and its output is several
    products side by side.
    """
    own, given, out, array = _reduced(layer, to_numpy(inputs))
    side, rows, _ = _kinds_of_letters(own, given, out)
    others = "".join(letter for letter in given if letter not in own)
    sizes = dict(zip(given, array.shape, strict=True))
    array = np.einsum(f"{given}->{side}{others}{rows}", array)
    array = array.reshape(_size(side, sizes), -1, _size(rows, sizes)).astype(np.float64)
    return np.matmul(array.transpose(0, 2, 1), array)


def as_matrices(layer: Any, kernel: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return the kernel of a Dense or EinsumDense as (products, inputs, outputs), and the way back.

    They are the matrices that the rows of `gram` are multiplied by.
    """
    given, own, out = _letters(_equation(layer), None)
    side, rows, columns = _kinds_of_letters(own, given, out)
    sizes, order = dict(zip(own, kernel.shape, strict=True)), side + rows + columns
    axes = [own.index(letter) for letter in order]
    shape = [_size(letters, sizes) for letters in (side, rows, columns)]

    def back(matrices: Array) -> Array:
        array = matrices.reshape([sizes[letter] for letter in order])
        return np.ascontiguousarray(array.transpose(np.argsort(axes)))

    return kernel.transpose(axes).reshape(shape), back


def _kinds_of_letters(own: str, given: str, out: str) -> tuple[str, str, str]:
    """Return a kernel's letters: of products side by side, of their inputs, of their outputs."""
    side = "".join(letter for letter in own if letter in given and letter in out)
    rows = "".join(letter for letter in own if letter in given and letter not in out)
    return side, rows, "".join(letter for letter in own if letter not in given)


def _size(letters: str, sizes: dict[str, int]) -> int:
    size = 1
    for letter in letters:
        size *= sizes[letter]
    return size


def _equation(layer: Any) -> str:
    return layer.equation if plain(layer) is layers.EinsumDense else "...i,io->...o"


def _letters(equation: str, rank: int | None) -> tuple[str, str, str]:
    """Return the letters of an equation's input, kernel and output.

    Args:
        equation: of an EinsumDense, as "...x,xy->...y".
        rank: axes of the input, to give letters to those of "..."; None: they get none.
    """
    equation = equation.replace(" ", "")
    left, _, out = equation.partition("->")
    given, _, own = left.partition(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    count = 0 if rank is None else rank - len(given.replace("...", ""))
    dots = "".join(spare[:count])
    return given.replace("...", dots), own, out.replace("...", dots)


def _reduced(layer: Any, array: Array) -> tuple[str, str, str, Array]:
    """Return the letters of kernel, input and output, and the input that the kernel multiplies.

    What an equation sums over in the input alone is summed first.
    """
    given, own, out = _letters(_equation(layer), array.ndim)
    kept = "".join(letter for letter in given if letter in own or letter in out)
    return own, kept, out, np.einsum(f"{given}->{kept}", array)


def to_numpy(tensor: Any) -> Array:
    """Return a tensor as floating-point numbers that NumPy computes with."""
    array = keras.ops.convert_to_numpy(tensor)
    # bfloat16 is none of NumPy's own, and integers would overflow.
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _channels_last(layer: Any, array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if layer.data_format == "channels_first" else array


def _squares_of_channels(array: Array) -> Array:
    """Return sums of squares over the examples, float64 (*positions, channels)."""
    return np.einsum("n...,n...->...", array, array, dtype=np.float64)


def _taps(layer: Any, array: Array) -> Array:
    """Return what each tap of a convolution sums up: float64 (*kernel size, channels)."""
    sums = _squares_of_channels(array)
    places = []  # of each axis: for each tap, the positions that it multiplies
    for size, taps, stride, dilation in zip(
        sums.shape[:-1], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = dilation * (taps - 1)
        before, count = _border(layer.padding, size, stride, reach)
        first = np.arange(count) * stride - before
        places.append([_inside(first + dilation * tap, size) for tap in range(taps)])
    return _summed(sums, places)


def _border(padding: str, size: int, stride: int, reach: int) -> tuple[int, int]:
    """Return (zeros before the first position, outputs) of one axis of a convolution."""
    if padding == "valid":
        return 0, (size - reach - 1) // stride + 1
    count = -(-size // stride)
    if padding == "causal":
        return reach, count
    return max((count - 1) * stride + reach + 1 - size, 0) // 2, count


def _taps_of_transposed(layer: Any, array: Array) -> Array:
    """Return what each tap of a transposed convolution sums up: float64 (*kernel size, channels).

    A tap multiplies each position, but those whose product falls beyond the output.
    """
    sums = _squares_of_channels(array)
    shape = (1, *sums.shape)
    if layer.data_format == "channels_first":
        shape = (1, sums.shape[-1], *sums.shape[:-1])
    outputs = layer.compute_output_shape(shape)
    outputs = outputs[2:] if layer.data_format == "channels_first" else outputs[1:-1]
    places = []
    for size, output, taps, stride, dilation in zip(
        sums.shape[:-1], outputs, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        whole = (size - 1) * stride + dilation * (taps - 1) + 1
        cut = 0 if layer.padding == "valid" else max(whole - output, 0) // 2
        to = np.arange(size) * stride - cut
        places.append(
            [
                np.flatnonzero((to + dilation * tap >= 0) & (to + dilation * tap < output))
                for tap in range(taps)
            ]
        )
    return _summed(sums, places)


def _inside(positions: Array, size: int) -> Array:
    return positions[(positions >= 0) & (positions < size)]


def _summed(sums: Array, places: list[list[Array]]) -> Array:
    """Return the sums over the positions of each tap, (*taps, channels)."""
    counts = [len(of_axis) for of_axis in places]
    found = np.zeros((*counts, sums.shape[-1]))
    for tap in itertools.product(*map(range, counts)):
        positions = np.ix_(*(of_axis[t] for of_axis, t in zip(places, tap, strict=True)))
        found[tap] = sums[positions].sum(axis=tuple(range(len(counts))))
    return found


def _depthwise(layer: Any, inputs: Any) -> Any:
    """Return what the pointwise kernel of a separable convolution multiplies."""
    return keras.ops.depthwise_conv(
        inputs,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def known(model: keras.Layer) -> dict[str, Any]:
    """Return {kernel path: layer} of the masked kernels that `squares` knows."""
    return {
        path: kernel.layer
        for path, kernel in kernels(model).items()
        if plain(kernel.layer) in KNOWN
    }
