"""Writes a network as C: its layers become a few kinds of steps, on buffers of one scratch array.

Images lie in planes, a channel after the other. A tensor says where each of its elements lies in a
buffer, or that it is zero, so reshaping, flattening, permuting, padding and cropping need no steps.
Layers that only scale and shift, such as Rescaling and BatchNorm, go into the weights beside them.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lottery_tf.export import c_int8
from lottery_tf.export.c_kernels import FUNCTIONS, POOLS, REDUCTIONS, STRUCTS
from lottery_tf.pruning import Array

C_TYPES = {"float32": "float", "uint8": "uint8_t", "uint16": "uint16_t", "int32": "int32_t"}
SHORT = {"float": "f32", "uint8_t": "u8", "uint16_t": "u16", "uint32_t": "u32", "int32_t": "i32"}
SPARSE = 0.3  # a dense layer with fewer of its weights is written sparsely
LINE = 100  # columns of a line of numbers


class NotInC(Exception):
    """Raised where a layer, or a use of it, cannot be written in C; the message says why."""


@dataclasses.dataclass(eq=False)
class Buffer:
    """A block of numbers: a part of the scratch array, or an argument of the function."""

    size: int
    type: str = "float"
    name: str = ""  # of an argument
    offset: int = 0  # in the scratch array
    first: int = 0  # the step that writes it
    last: int = -1  # the last one that reads it

    @property
    def floats(self) -> int:
        """How many floats of the scratch array it takes."""
        return self.size if self.type == "float" else -(-self.size // 4)


@dataclasses.dataclass(eq=False)
class Step:
    """A call of C functions that fills a buffer."""

    about: str
    out: Buffer
    reads: list[Buffer]
    code: Callable[["Step"], Iterable[str]]  # the lines; {0}, {1}, … are `reads`, {y} is `out`
    activation: tuple[str, str] = ("", "")  # its name, and an expression of x
    # Of a linear step: (inputs, outputs), float64.
    weights: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    bias: Array = dataclasses.field(default_factory=lambda: np.zeros(0))  # (outputs,)
    plane: int = 1  # numbers of the buffer that an output of a linear step has
    softmax: tuple[int, int, int] = (0, 0, 0)  # channels, how far apart, of how many elements


@dataclasses.dataclass(eq=False)
class Tensor:
    """Says where the elements of a tensor lie, and how they must still be scaled."""

    buffer: Buffer
    places: Array  # of Keras's shape: the index in the buffer; -1: zero
    scale: Array | None = None  # of the same shape, float64: the value is scale * x + offset
    offset: Array | None = None
    step: Step | None = None  # that made it, if nothing else reads the buffer

    def map(self, change: Callable[[Array], Array]) -> "Tensor":
        """Return a view: the same elements in another order or shape."""
        scale, offset = (None if a is None else change(a) for a in (self.scale, self.offset))
        return dataclasses.replace(self, places=change(self.places), scale=scale, offset=offset)

    def pad(self, widths: Sequence[tuple[int, int]]) -> "Tensor":
        """Return a view with zeros around it."""
        if not any(map(any, widths)):
            return self
        padded = dataclasses.replace(self, places=np.pad(self.places, widths, constant_values=-1))
        if self.scale is not None and self.offset is not None:
            padded.scale = np.pad(self.scale, widths)
            padded.offset = np.pad(self.offset, widths)
        return padded

    @property
    def whole(self) -> bool:
        """Whether its elements are all floats of its buffer, in the buffer's order."""
        return self.is_float and np.array_equal(
            self.places.reshape(-1), np.arange(self.buffer.size)
        )

    @property
    def in_order(self) -> bool:
        """Whether its elements lie side by side in the order of its shape."""
        flat = self.places.reshape(-1)
        return np.array_equal(flat, np.arange(flat.size))

    @property
    def side_by_side(self) -> bool:
        """Whether its elements lie side by side, in any order."""
        places = np.sort(self.places, axis=None)
        return bool(places[0] >= 0) and np.array_equal(places, places[0] + np.arange(places.size))

    @property
    def affine(self) -> list[Array]:
        """Its scale and offset, if it has them."""
        return [array for array in (self.scale, self.offset) if array is not None]

    @property
    def is_float(self) -> bool:
        """Whether its elements are the floats of its buffer."""
        return self.scale is None and self.buffer.type == "float"


@dataclasses.dataclass(frozen=True)
class Planes:
    """Says how (channels, rows, columns) lie in a buffer of floats: columns side by side."""

    buffer: Buffer
    start: int
    shape: tuple[int, int, int]
    channel: int  # from one to the next
    row: int

    @property
    def places(self) -> Array:
        c, i, j = np.ogrid[tuple(map(slice, self.shape))]
        return self.start + c * self.channel + i * self.row + j


def strides(places: Array) -> tuple[int, int, int] | None:
    """Return how far apart the places of three axes are; None if they are not at even steps."""
    steps = []
    for axis in range(3):
        second = [0, 0, 0]
        second[axis] = 1
        many = places.shape[axis] > 1
        steps.append(int(places[tuple(second)] - places[0, 0, 0]) if many else 0)
    c, i, j = np.ogrid[tuple(map(slice, places.shape))]
    even = places[0, 0, 0] + c * steps[0] + i * steps[1] + j * steps[2]
    return (steps[0], steps[1], steps[2]) if np.array_equal(even, places) else None


def images_last(tensor: Tensor, channel_axis: int) -> Tensor:
    """Return a view (channels, rows, columns) of a tensor of up to three axes."""
    if tensor.places.ndim > 3:
        raise NotInC(f"a tensor of shape {tensor.places.shape}")

    def change(array: Array) -> Array:
        array = np.moveaxis(array, channel_axis, 0)
        middle = (1,) * (3 - array.ndim)
        return array.reshape(array.shape[:1] + middle + array.shape[1:])

    return tensor.map(change)


class Source:
    """Collects the C file of a network while it is written."""

    def __init__(self, taken: set[str], *, dense: bool, int8: bool = False):
        self.names, self.dense, self.int8 = taken, dense, int8
        self.ranges: list[c_int8.Range] = []  # of int8: inputs of the products that a layer adds
        self.steps: list[Step] = []
        self.data: list[str] = []
        self.functions: dict[tuple[str, ...], tuple[str, str]] = {}  # {…: name and text}
        self.structs: dict[str, str] = {}
        self.current = ""  # the layer that is being written

    # The steps.

    def add(self, out: Buffer, reads: list[Buffer], code: Callable, **more: Any) -> Step:
        """Add a step that writes a buffer."""
        step = Step(self.current, out, reads, code, **more)
        self.steps.append(step)
        return step

    def copy(
        self, tensor: Tensor, to: Planes, down: int = 1, across: int = 1, *, fresh: bool = True
    ) -> Step:
        """Add a step that copies (channels, rows, columns), scaled and with its zeros.

        Strides `down` and `across` part rows and columns into planes: `to` is of one of them.
        `fresh`: whether the numbers around it are to be zeros.
        """
        tensor = self.evened(tensor)
        places, plane = tensor.places, to.channel // (down * across)
        inside = places >= 0
        if not inside.any():
            return self.add(to.buffer, [], lambda step: [self.zero(to.buffer.size)])
        box = _box(inside)
        steps = strides(places[box])
        assert steps
        first, shape = int(places[box].flat[0]), places[box].shape
        tables = [
            array[box].reshape(shape[0], -1)[:, 0].astype(np.float32) for array in tensor.affine
        ]
        value, before = "(float)in[(long)j * b->from_column]", ""
        if tables:
            value, before = f"s * {value} + t", "const float s = scale[c], t = offset[c];"

        def code(step: Step) -> Iterable[str]:
            if fresh and inside.sum() < to.buffer.size:
                yield self.zero(to.buffer.size)
            type = tensor.buffer.type
            self.struct("copy")
            called = self.function(
                "copy", "scale" if tables else "", x=type, value=value, before=before
            )
            numbers = [*shape, *steps, box[1].start, box[2].start, down, across]
            numbers += [to.channel, plane, to.row]
            named = self.variable("box", "static const struct box", numbers)
            scaled = [
                self.array(name, table)
                for name, table in zip(("scale", "offset"), tables, strict=False)
            ] or ["0", "0"]
            at = to.start + box[0].start * to.channel
            yield (
                f"{called}({{0}}{_plus(first)}, &{named}, {', '.join(scaled)}, {{y}}{_plus(at)});"
            )

        return self.add(to.buffer, [tensor.buffer], code)

    def zero(self, count: int) -> str:
        return f"{self.function('zero')}({{y}}, {count});"

    def compact(self, tensor: Tensor) -> Planes:
        """Return the floats of (channels, rows, columns), copied if they lie otherwise."""
        places = tensor.places
        if tensor.is_float and (places >= 0).all():
            steps = strides(places)
            if steps and (places.shape[2] == 1 or steps[2] == 1):
                return Planes(tensor.buffer, int(places.flat[0]), places.shape, steps[0], steps[1])
        made = self.spread(tensor)
        c, h, w = places.shape
        return Planes(made, 0, (c, h, w), h * w, w)

    def spread(self, tensor: Tensor) -> Buffer:
        """Add a step that copies (channels, rows, columns) in order; return its buffer."""
        out, (c, h, w) = Buffer(tensor.places.size), tensor.places.shape
        self.copy(tensor, Planes(out, 0, (c, h, w), h * w, w))
        return out

    def evened(self, tensor: Tensor) -> Tensor:
        """Return (channels, rows, columns) at even distances, with one scale for each channel."""
        inside, shape = tensor.places >= 0, tensor.places.shape
        box = _box(inside) if inside.any() else (slice(0),) * 3
        if not inside[box].all() or (inside.any() and not strides(tensor.places[box])):
            table = tensor.places.reshape(-1) + 1
            table = table.astype(_unsigned(table.max(), 16))
            out = Buffer(table.size)

            def code(step: Step) -> Iterable[str]:
                types = {"x": tensor.buffer.type, "places": _c_type(table)}
                called = self.function("gather", **types)
                yield f"{called}({{0}}, {self.array('places', table)}, {out.size}, {{y}});"

            self.add(out, [tensor.buffer], code)
            places = np.arange(out.size).reshape(shape)
            return self.evened(Tensor(out, places, tensor.scale, tensor.offset))
        flat = [array[box].reshape(array[box].shape[0], -1) for array in tensor.affine]
        if any(np.ptp(array, 1).any() for array in flat if array.size):
            out = self.spread(tensor.map(lambda array: array.reshape(-1, 1, 1)))
            return Tensor(out, np.arange(out.size).reshape(shape))
        return tensor

    def floats(self, tensor: Tensor) -> Tensor:
        """Return a tensor whose elements are floats that need no scaling, none an implied zero."""
        if tensor.is_float and (tensor.places >= 0).all():
            return tensor
        return self.copied(tensor)

    # Linear layers.

    def linear(self, tensor: Tensor, kernel: Array, bias: Array | None) -> Tensor:
        """Add outputs = inputs @ kernel + bias, of a vector of inputs."""
        kernel = kernel.astype(np.float64)
        bias = np.zeros(kernel.shape[1]) if bias is None else bias.astype(np.float64)
        codes = None
        if self.int8 and tensor.buffer.type == "uint8_t" and tensor.side_by_side:
            codes = c_int8.Codes(0.0, 1.0)  # of pixels, exactly
            self.ranges.pop(0)
            if tensor.scale is not None and tensor.offset is not None:
                bias, kernel = bias + tensor.offset @ kernel, tensor.scale[:, None] * kernel
        else:
            tensor = self.floats(tensor)
            if not tensor.side_by_side:
                tensor = self.in_order(tensor)
        order = np.argsort(tensor.places)
        buffer, start = tensor.buffer, int(tensor.places[order[0]])
        if self.int8 and not codes:
            buffer, codes = self.coded(buffer, start, len(order))
            start = 0
        out = Buffer(kernel.shape[1])
        step = self.add(
            out,
            [buffer],
            lambda step: self.product(step, start, codes),
            weights=kernel[order],
            bias=bias,
        )
        return Tensor(out, np.arange(out.size), step=step)

    def coded(
        self, buffer: Buffer, start: int, count: int, behind: int = 0
    ) -> tuple[Buffer, c_int8.Codes]:
        """Add a step that writes floats as bytes; return its buffer, and what the bytes mean.

        `behind` them are so many bytes of any value.
        """
        low, high = self.ranges.pop(0)
        if not np.isfinite([low, high]).all():
            raise NotInC("its inputs are not finite for the examples that int8 is calibrated on")
        codes, out = c_int8.Codes.of_range(low, high), Buffer(count + behind, "uint8_t")
        numbers = ", ".join(f"{np.float32(one)!s}f" for one in (codes.low, 1 / codes.step))
        called = self.function("quantize")
        line = f"{called}({{0}}{_plus(start)}, {count}, {numbers}, {{y}});"
        self.add(out, [buffer], lambda step: [line])
        return out, codes

    def constants(self, step: Step, codes: c_int8.Codes | None) -> tuple[Array, dict[str, Array]]:
        """Return the weights (outputs, inputs) of a linear step, and what each output has.

        Raises:
            NotInC: the weights are not finite, or the sums of bytes may exceed 32 bits.
        """
        if not np.isfinite(step.weights).all():
            raise NotInC("its weights are not finite")
        if codes is None:
            return np.float32(step.weights).T, {"bias": np.float32(step.bias)}
        weights, scale, bias = c_int8.quantized(step.weights, step.bias, codes)
        if 255 * np.abs(weights.astype(np.int64)).sum(0).max() >= 2**31:
            raise NotInC(f"sums of {len(weights):,} products of bytes may exceed 32 bits")
        return weights.T, {"scale": scale, "bias": bias}

    def product(self, step: Step, start: int, codes: c_int8.Codes | None) -> Iterable[str]:
        """Yield the line of a product of a vector with weights."""
        kernel, of_output = self.constants(step, codes)
        (outputs, inputs), alive = kernel.shape, int(np.count_nonzero(kernel))
        step.about += f", {inputs:,} to {outputs:,}, {alive:,} of {kernel.size:,} weights"
        if self.dense or alive >= SPARSE * kernel.size:
            arrays = {"weights": kernel.reshape(-1), **of_output}
            called = self.function("dense_int8" if codes else "dense")
            sizes = f"{inputs}, {outputs}"
        else:
            rows, columns = np.nonzero(kernel)
            arrays = gathered(rows, columns, kernel[rows, columns], outputs) | of_output
            types = {name: _c_type(arrays[name]) for name in ("counts", "gaps")}
            called = self.function("sparse_int8" if codes else "sparse", **types)
            sizes = f"{outputs}"
        names = ", ".join(self.array(name, array) for name, array in arrays.items())
        yield f"{called}({{0}}{_plus(start)}, {sizes}, {names}, {{y}});"

    def convolve(
        self,
        tensor: Tensor,
        kernel: Array,
        bias: Array | None,
        sizes: tuple[int, int],
        steps: tuple[int, int],
        rates: tuple[int, int],
    ) -> Tensor:
        """Add a convolution of padded (channels, rows, columns); return its view of that kind.

        `kernel` is (channels * height * width, outputs).
        """
        channels, rows, columns = tensor.places.shape
        height, width = ((size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True))
        (down, across), outputs = steps, kernel.shape[1]
        out_rows, out_columns = (rows - height) // down + 1, (columns - width) // across + 1
        c, k, m = (
            axis.reshape(-1)
            for axis in np.meshgrid(
                np.arange(channels),
                np.arange(sizes[0]) * rates[0],
                np.arange(sizes[1]) * rates[1],
                indexing="ij",
            )
        )
        if out_rows * out_columns == 1:
            seen = tensor.map(lambda array: array[c, k, m])
            return self.linear(seen, kernel, bias).map(lambda array: array.reshape(-1, 1, 1))
        even = strides(tensor.places) if (tensor.places >= 0).all() and tensor.is_float else None
        if even and even[2] == 1 and steps == (1, 1) and out_columns > 1:
            start, row = int(tensor.places.flat[0]), even[1] or columns
            planes = Planes(tensor.buffer, start, tensor.places.shape, even[0], row)
            plane = 0
        else:
            row, plane_rows = -(-columns // across), -(-rows // down)
            plane = row * plane_rows
            size = channels * down * across * plane
            shape = (channels, plane_rows, row)
            planes = Planes(Buffer(size), 0, shape, down * across * plane, row)
            self.copy(tensor, planes, down, across)
        taps = c * planes.channel + (k % down * across + m % across) * plane
        taps += k // down * planes.row + m // across
        pixels = (out_rows - 1) * planes.row + out_columns
        of_output = out_rows * planes.row
        out, buffer, codes = Buffer(outputs * of_output), planes.buffer, None
        if self.int8:
            buffer, codes = self.coded(buffer, 0, buffer.size, behind=31)
        step = self.add(
            out,
            [buffer],
            lambda step: self.taps(step, planes.start, taps, pixels, codes),
            weights=kernel.astype(np.float64),
            bias=np.zeros(outputs) if bias is None else bias.astype(np.float64),
            plane=of_output,
        )
        lying = Planes(out, 0, (outputs, out_rows, out_columns), of_output, planes.row)
        return Tensor(out, lying.places, step=step)

    def taps(
        self, step: Step, start: int, places: Array, pixels: int, codes: c_int8.Codes | None
    ) -> Iterable[str]:
        """Yield the lines of a convolution: weights, and where each of them reads."""
        order = np.argsort(places, kind="stable")
        kernel, of_output = self.constants(step, codes)
        kernel, places = kernel[:, order], places[order]
        alive = int(np.count_nonzero(kernel))
        step.about += f", to {len(kernel):,}, {alive:,} weights for {pixels:,} pixels"
        shared = self.dense or alive > 2 / 3 * kernel.size
        if shared:
            counts, values = np.full(len(kernel), len(places)), kernel.reshape(-1)
            gaps = np.diff(places, prepend=0)
        else:
            outputs, inputs = np.nonzero(kernel)
            counts, values = np.bincount(outputs, minlength=len(kernel)), kernel[outputs, inputs]
            gaps = np.diff(places[inputs], prepend=0)
            starts = np.flatnonzero(np.diff(outputs, prepend=-1))
            gaps[starts] = places[inputs[starts]]
        counts = counts.astype(_unsigned(counts.max(initial=0), 16))
        gaps = gaps.astype(_unsigned(gaps.max(initial=0), 16))
        least = "-INFINITY"
        if step.activation[0] == "relu":
            step.activation, least = ("", ""), "0"
        kind = "convolve_int8" if codes else "convolve"
        called = self.function(kind, counts=_c_type(counts), gaps=_c_type(gaps))
        arrays = [self.array("counts", counts), self.array("gaps", gaps)]
        of_output = {"weights": values, **of_output}
        weights = [self.array(name, array) for name, array in of_output.items()]
        yield (
            f"{called}({{0}}{_plus(start)}, {len(kernel)}, {', '.join(arrays)}, {int(shared)}, "
            f"{', '.join(weights)}, {least}, {pixels}, {step.plane}, {{y}});"
        )

    # Other layers.

    def activate(self, tensor: Tensor, name: str, expression: str) -> Tensor:
        """Apply an activation to each element: in the step that made them, or to a copy."""
        step = tensor.step
        able = step and not (step.activation[0] or step.softmax[0])
        if not (able and tensor.is_float and (tensor.places >= 0).all()):
            tensor = self.copied(tensor)
        assert tensor.step
        tensor.step.activation = name, expression
        return tensor

    def softmax(self, tensor: Tensor, axis: int) -> Tensor:
        """Apply the softmax along an axis."""
        view = images_last(tensor, axis)
        shape, out = view.places.shape, self.spread(view)
        step = self.steps[-1]
        step.softmax = shape[0], shape[1] * shape[2], shape[1] * shape[2]
        places = np.arange(out.size).reshape(shape[:1] + shape[4 - tensor.places.ndim :])
        return Tensor(out, np.moveaxis(places, 0, axis), step=step)

    def copied(self, tensor: Tensor) -> Tensor:
        """Copy the elements into a buffer of their own, side by side."""
        axes = _outer_first(tensor.places)
        view = tensor.map(lambda array: array.transpose(axes))
        shape = view.places.shape
        if len(shape) > 3:
            raise NotInC(f"a tensor of shape {tensor.places.shape}")
        view = view.map(lambda array: array.reshape((1,) * (3 - len(shape)) + shape))
        out = self.spread(view)
        places = np.arange(out.size).reshape(shape).transpose(np.argsort(axes))
        return Tensor(out, places, step=self.steps[-1])

    def combine(self, tensors: Sequence[Tensor], name: str, value: str) -> Tensor:
        """Combine the elements of tensors of one shape."""
        result, *others = tensors
        if any(other.places.shape != result.places.shape for other in others):
            raise NotInC("its inputs have different shapes")
        result = self.floats(result)
        for other in others:
            other = self.floats(other)
            if not np.array_equal(other.places, result.places):
                result, other = (
                    tensor if tensor.in_order else self.in_order(tensor)
                    for tensor in (result, other)
                )
            size = int(result.places.max()) + 1
            out = Buffer(size)

            def code(step: Step, size: int = size) -> Iterable[str]:
                yield f"{self.function('combine', name, value=value)}({{0}}, {{1}}, {size}, {{y}});"

            step = self.add(out, [result.buffer, other.buffer], code)
            result = Tensor(out, result.places, step=step)
        return result

    def in_order(self, tensor: Tensor) -> Tensor:
        """Copy the elements into a buffer of their own, in the order of the shape."""
        shape = tensor.places.shape
        view = tensor.map(lambda array: array.reshape(((1,) * 3 + shape)[-3:]))
        out = self.spread(view)
        return Tensor(out, np.arange(out.size).reshape(shape), step=self.steps[-1])

    def concatenate(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Join tensors along an axis: copy one behind the other."""
        out = Buffer(sum(tensor.places.size for tensor in tensors))
        places, base = [], 0
        for tensor in tensors:
            tensor = self.floats(tensor)
            axes = _outer_first(tensor.places)
            shape = tuple(tensor.places.shape[axis] for axis in axes)
            c, h, w = (1, 1, 1, *shape)[-3:]
            lying = tensor.places.transpose(axes).reshape(c, h, w)
            to = Planes(out, base, (c, h, w), h * w, w)
            self.copy(dataclasses.replace(tensor, places=lying), to, fresh=False)
            places.append(to.places.reshape(shape).transpose(np.argsort(axes)))
            base += tensor.places.size
        return Tensor(out, np.concatenate(places, axis))

    def pool(
        self,
        tensor: Tensor,
        kind: str,
        sizes: tuple[int, int],
        steps: tuple[int, int],
        before: tuple[int, int],
        shape: tuple[int, int],
    ) -> Tensor:
        """Reduce windows of (channels, rows, columns) to (channels, *shape)."""
        planes = self.compact(tensor)
        channels, rows, columns = planes.shape
        out = Buffer(channels * shape[0] * shape[1])
        numbers = [*planes.shape, planes.channel, planes.row, *sizes, *steps, *before, *shape]

        def code(step: Step) -> Iterable[str]:
            self.struct("pool")
            called = self.function("pool", kind, **POOLS[kind])
            named = self.variable("windows", "static const struct windows", numbers)
            yield f"{called}({{0}}{_plus(planes.start)}, &{named}, {{y}});"

        def whole(step: Step) -> Iterable[str]:
            called = self.function("reduce", kind, **REDUCTIONS[kind])
            sides = f"{channels}, {rows}, {columns}, {planes.channel}, {planes.row}"
            yield f"{called}({{0}}{_plus(planes.start)}, {sides}, {{y}});"

        is_whole = sizes == (rows, columns) and shape == (1, 1)
        step = self.add(out, [planes.buffer], whole if is_whole else code)
        lying = Planes(out, 0, (channels, *shape), shape[0] * shape[1], shape[1])
        return Tensor(out, lying.places, step=step)

    def lines(self, step: Step) -> list[str]:
        """Return the lines of a step."""
        written = list(step.code(step))
        if step.activation[0]:
            name, expression = step.activation
            called = self.function("activate", name, value=expression)
            written.append(f"{called}({{y}}, {step.out.size});")
        if step.softmax[0]:
            numbers = ", ".join(map(str, step.softmax))
            written.append(f"{self.function('softmax')}({{y}}, {numbers});")
        return written

    # The parts of the file.

    def function(self, kind: str, ending: str = "", **types: str) -> str:
        """Return the name of a function, and write it into the file once."""
        key = kind, ending, *types.values()
        if key not in self.functions:
            of_types = [SHORT[type] for type in types.values() if type in SHORT]
            name = self.free("_".join([kind, *([ending] if ending else []), *of_types]))
            self.functions[key] = name, FUNCTIONS[kind].format(name=name, **types)
        return self.functions[key][0]

    def struct(self, kind: str) -> None:
        self.structs[kind] = STRUCTS[kind]

    def variable(self, what: str, type: str, numbers: Sequence[Any]) -> str:
        """Return the name of a variable with these numbers."""
        name = self.free(f"{self.current_layer}_{what}")
        self.data.append(f"{type} {name} = {{{', '.join(map(str, numbers))}}};\n")
        return name

    def array(self, what: str, array: Array) -> str:
        """Return the name of an array of constants."""
        if not np.isfinite(array).all():
            raise NotInC("its weights are not finite")
        name = self.free(f"{self.current_layer}_{what}")
        texts = array.astype(str).tolist() if array.size else ["0"]
        if array.dtype == np.float32:
            texts = [f"{text}f" if "." in text or "e" in text else f"{text}.0f" for text in texts]
        lines, line = [], ""
        for text in texts:
            if len(line) + len(text) + 2 > LINE:
                lines.append(line)
                line = ""
            line += f"{text}, "
        body = "\n    ".join(part.rstrip() for part in [*lines, line])
        self.data.append(
            f"static const {_c_type(array)} {name}[{max(array.size, 1)}] = {{\n    {body}\n}};\n"
        )
        return name

    def free(self, name: str) -> str:
        """Return an unused C name, close to this one."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = f"of_{name}" if name[0].isdigit() or name[0] == "_" else name
        free, number = name, 2
        while free in self.names:
            free, number = f"{name}_{number}", number + 1
        self.names.add(free)
        return free

    @property
    def current_layer(self) -> str:
        return self.current.partition(":")[0]


def _box(inside: Array) -> tuple[slice, slice, slice]:
    """Return the smallest box of three axes that holds everything true."""
    found = [np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    rows, columns, depth = (slice(int(one[0]), int(one[-1]) + 1) for one in found)
    return rows, columns, depth


def _plus(number: int) -> str:
    return f" + {number}" if number else ""


def _unsigned(largest: int, bits: int = 8) -> str:
    """Return the smallest unsigned type, of so many bits at least, that holds a number."""
    return f"uint{max(bits, 8 * np.min_scalar_type(int(largest)).itemsize)}"


def _c_type(array: Array) -> str:
    return "float" if array.dtype == np.float32 else f"{array.dtype}_t"


def gathered(rows: Array, places: Array, weights: Array, outputs: int) -> dict[str, Array]:
    """Return the arrays of a sparse product: of each output the count of its weights, and gaps.

    The gaps between ascending places are of a byte, or of two where bytes would need many zeros
    as bridges.
    """
    size = weights.itemsize
    short, wide = (_gaps(rows, places, weights, longest) for longest in (255, 65535))
    is_short = (size + 1) * len(short[0]) < (size + 2) * len(wide[0])
    rows, gaps, weights = short if is_short else wide
    counts = np.bincount(rows, minlength=outputs)
    return {
        "counts": counts.astype(_unsigned(counts.max(initial=0), 16)),
        "gaps": gaps.astype(np.uint8 if is_short else np.uint16),
        "weights": weights,
    }


def _gaps(rows: Array, places: Array, values: Array, longest: int) -> tuple[Array, Array, Array]:
    """Return rows, gaps between the places of a row, and values; zeros bridge longer gaps."""
    before = np.where(np.diff(rows, prepend=-1) == 0, np.roll(places, 1), 0)
    gaps = places - before
    bridges = np.maximum(-(-gaps // longest) - 1, 0)
    filled_gaps = np.full(len(rows) + int(bridges.sum()), longest)
    ends = np.cumsum(bridges + 1) - 1
    filled_gaps[ends] = gaps - longest * bridges
    filled = np.zeros(len(filled_gaps), values.dtype)
    filled[ends] = values
    return np.repeat(rows, bridges + 1), filled_gaps, filled


def _outer_first(places: Array) -> list[int]:
    """Return the axes in the order in which their elements lie, the nearest last."""
    far = []
    for axis in range(places.ndim):
        distances = np.diff(places, axis=axis)
        inside = (np.take(places, range(1, places.shape[axis]), axis) >= 0) & (
            np.take(places, range(places.shape[axis] - 1), axis) >= 0
        )
        far.append(np.abs(distances[inside]).max(initial=0))
    # An axis that only zeros were added to lies where it stands.
    return sorted(range(places.ndim), key=lambda axis: -far[axis])
