"""Writes a network as lines of NumPy, JAX and PyTorch, for the README of an npz export."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras

from lottery_tf.structure.graph import Call, Graph

layers = keras.layers
Names = list[str]  # of arrays, as expressions
Line = Callable[[keras.Layer, Names, Names], str | None]  # (layer, inputs, weights) -> expression

# The code of functions that the lines of a network call. JAX and TORCH hold the functions that need
# other code there.
HELPERS = {
    "checked": '''\
def checked(name, array, dtype, shape):
    """Return an input; None stands for any length."""
    found = str(array.dtype).removeprefix("torch."), tuple(array.shape)
    fits = len(found[1]) == len(shape) and all(n in (None, m) for n, m in zip(shape, found[1]))
    if found[0] != dtype or not fits:
        raise ValueError(f"{name}: expected {dtype} {shape}. Received: {found[0]} {found[1]}")
    return array
''',
    "float32": """\
def float32(x):
    return np.asarray(x, np.float32)
""",
    "padded": '''\
def padded(x, sizes, strides, value=0.0):
    """Borders as TensorFlow's "same" padding adds them."""
    needed = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[1:3], sizes, strides)
    ]
    rows, columns = [(n // 2, n - n // 2) for n in needed]
    return bordered(x, rows, columns, value)
''',
    "bordered": """\
def bordered(x, rows, columns, value=0.0):
    return np.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=value)
""",
    "windows": '''\
def windows(x, sizes, strides):
    """(batch, rows, columns, channels, height, width) of what a kernel of some size sees."""
    every = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=(1, 2))
    return every[:, :: strides[0], :: strides[1]]
''',
    "einsum": """\
def einsum(axes, x, kernel):
    return np.einsum(axes, x, kernel, optimize=True)
""",
    "merged": '''\
def merged(x):
    """The channels in and their multiplier as one axis."""
    return x.reshape(*x.shape[:3], -1)
''',
    "highest": """\
def highest(x, axes, keepdims=False):
    return x.max(axes, keepdims=keepdims)
""",
    "permuted": """\
def permuted(x, axes):
    return x.transpose(axes)
""",
    "joined": """\
def joined(arrays, axis):
    return np.concatenate(arrays, axis)
""",
    "relu": """\
def relu(x):
    return np.maximum(x, 0)
""",
    "tanh": """\
def tanh(x):
    return np.tanh(x)
""",
    "softmax": """\
def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
""",
    "sigmoid": """\
def sigmoid(x):
    return 1 / (1 + np.exp(-x))
""",
}
JAX = {
    "windows": """\
def windows(x, sizes, strides):
    rows, columns = (
        np.arange(0, n - k + 1, s)[:, None] + np.arange(k)
        for n, k, s in zip(x.shape[1:3], sizes, strides)
    )
    seen = x[:, rows[:, None, :, None], columns[None, :, None, :]]
    return np.moveaxis(seen, -1, 3)
""",
}
TORCH = {
    "float32": """\
def float32(x):
    return torch.as_tensor(x, dtype=torch.float32)
""",
    "bordered": """\
def bordered(x, rows, columns, value=0.0):
    return torch.nn.functional.pad(x, (0, 0, *columns, *rows), value=value)
""",
    "windows": """\
def windows(x, sizes, strides):
    return x.unfold(1, sizes[0], strides[0]).unfold(2, sizes[1], strides[1])
""",
    "einsum": """\
def einsum(axes, x, kernel):
    return torch.einsum(axes, x, kernel)
""",
    "highest": """\
def highest(x, axes, keepdims=False):
    return torch.amax(x, axes, keepdims)
""",
    "permuted": """\
def permuted(x, axes):
    return x.permute(axes)
""",
    "joined": """\
def joined(arrays, axis):
    return torch.cat(arrays, axis)
""",
    "relu": """\
def relu(x):
    return torch.relu(x)
""",
    "tanh": """\
def tanh(x):
    return torch.tanh(x)
""",
    "softmax": """\
def softmax(x):
    return torch.softmax(x, -1)
""",
    "sigmoid": """\
def sigmoid(x):
    return torch.sigmoid(x)
""",
}
ACTIVATIONS = {
    "linear": "{}",
    "relu": "relu({})",
    "tanh": "tanh({})",
    "sigmoid": "sigmoid({})",
    "softmax": "softmax({})",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The code that computes a network, or why there is none."""

    numpy: str = ""  # whole; the others replace functions of it, which run after it
    jax: str = ""
    torch: str = ""
    unknown: Mapping[str, str] = dataclasses.field(default_factory=dict)  # {layer: its class}


def recipe(graph: Graph, names: Mapping[int, str]) -> Recipe:
    """Return the code that computes a network with NumPy alone, and with JAX or PyTorch.

    The Recipe has no code if a layer has no line. `names` is {id of a variable: name of its array}.
    """
    tensors = {
        number: f"x[{tensor.name!r}]"
        for number, tensor in zip(graph.inputs, graph.model.inputs, strict=True)
    }
    lines, unknown = [], {}
    for tensor in graph.model.inputs:
        dtype, shape = keras.backend.standardize_dtype(tensor.dtype), tuple(tensor.shape)
        array = f"x[{tensor.name!r}]"
        lines.append(f"    {array} = checked({tensor.name!r}, {array}, {dtype!r}, {shape})")
    for call in graph.calls:
        given = [tensors[number] for number in call.inputs]
        name, count = call.name, 2
        while f"x[{name!r}]" in tensors.values():  # a layer that is called again
            name, count = f"{call.name} {count}", count + 1
        for place, number in enumerate(call.outputs):
            tensors[number] = f"x[{f'{name} output {place}' if place else name!r}]"
        variables = getattr(call.layer, "weights", ())
        weights = [f"arrays[{names[id(one)]!r}]" for one in variables if id(one) in names]
        expression = _expression(call, given, weights)
        if expression is None:
            unknown[call.name] = type(call.layer).__name__
        else:
            lines.append(f"    {tensors[call.outputs[0]]} = {expression}")
    if unknown:
        return Recipe(unknown=unknown)
    inputs = [tensor.name for tensor in graph.model.inputs]
    results = ", ".join(tensors[number] for number in graph.outputs)
    body = "\n".join(lines)
    used = [name for name in HELPERS if f"{name}(" in body]
    if "padded" in used and "bordered" not in used:
        used.append("bordered")
    about = f'"""Take {{name: array}} of {", ".join(inputs)}; give what the network gives."""'
    run = f"def run(x):\n    {about}\n    x = dict(x)\n{body}\n    return {results}\n"
    numpy, jax, torch = (
        [others[name] for name in used if name in others] for others in (HELPERS, JAX, TORCH)
    )
    return Recipe("\n\n".join([*numpy, run]), "\n\n".join(jax), "\n\n".join(torch))


def is_plain(call: Call) -> bool:
    """Return whether a call has one output, no options and no LoRA."""
    options = {name for name, value in call.kwargs.items() if value is not None}
    if call.kwargs.get("training") is False:  # as Keras notes of a Dropout
        options -= {"training"}
    return len(call.outputs) == 1 and not options and not getattr(call.layer, "lora_enabled", False)


def _expression(call: Call, given: Names, weights: Names) -> str | None:
    """Return the expression of a call, or None where it has no line."""
    line, layer = LINES.get(type(call.layer)), call.layer
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    if line is None or not is_plain(call) or not last:
        return None
    if isinstance(line, str):
        return line.format(*given, layer=layer)
    return line(layer, given, weights)


def _activated(layer: keras.Layer, expression: str) -> str | None:
    """Return an expression behind the activation of a layer."""
    form = ACTIVATIONS.get(getattr(layer.activation, "__name__", ""))
    return form and form.format(expression)


def _with_bias(layer: keras.Layer, product: str, weights: Names) -> str | None:
    """Return a product with the bias and the activation of its layer."""
    return _activated(layer, f"{product} + {weights[1]}" if layer.use_bias else product)


def _windows(layer: keras.Layer, image: str, sizes: Sequence[int], border: str = "0.0") -> str:
    """Return the windows of a convolution or a pooling."""
    step = f"{tuple(sizes)}, {tuple(layer.strides)}"
    if layer.padding == "same":
        image = f"padded({image}, {step}, {border})"
    return f"windows({image}, {step})"


def _convolution(axes: str) -> Line:
    def line(layer: keras.Layer, given: Names, weights: Names) -> str | None:
        if getattr(layer, "groups", 1) != 1 or any(rate != 1 for rate in layer.dilation_rate):
            return None
        seen = _windows(layer, given[0], layer.kernel_size)
        product = f"einsum({axes!r}, {seen}, {weights[0]})"
        if axes.endswith("m"):  # depthwise: (…, channels in, multiplier)
            product = f"merged({product})"
        return _with_bias(layer, product, weights)

    return line


def _pooling(border: str | None = None) -> Line:
    def line(layer: keras.Layer, given: Names, weights: Names) -> str | None:
        one = all(size == 1 for size in layer.pool_size)
        if layer.padding == "same" and not (border or one):  # averages leave the borders out
            return None
        seen = _windows(layer, given[0], layer.pool_size, border or "0.0")
        return f"highest({seen}, (4, 5))" if border else f"{seen}.mean((4, 5))"

    return line


def _batch_normalization(layer: keras.Layer, given: Names, weights: Names) -> str | None:
    if layer.axis not in (-1, layer.input_spec.ndim - 1):
        return None
    *affine, mean, variance = weights
    scaled = f"({given[0]} - {mean}) / ({variance} + {layer.epsilon}) ** 0.5"
    if layer.scale:
        scaled += f" * {affine[0]}"
    return f"{scaled} + {affine[-1]}" if layer.center else scaled


def _relu(layer: keras.Layer, given: Names, weights: Names) -> str | None:
    plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    return f"relu({given[0]})" if plain else None


# {class of layers: its Line, or the expression with {0} for its input and {layer} for itself}
LINES: dict[type, Line | str] = {
    layers.Identity: "{0}",
    layers.Dropout: "{0}",
    layers.SpatialDropout2D: "{0}",
    layers.Rescaling: ("float32({0}) * float32({layer.scale}) + float32({layer.offset})"),
    layers.Flatten: "{0}.reshape(len({0}), -1)",
    layers.Reshape: "{0}.reshape(len({0}), *{layer.target_shape})",
    layers.Permute: "permuted({0}, (0, *{layer.dims}))",
    layers.ZeroPadding2D: "bordered({0}, {layer.padding[0]}, {layer.padding[1]})",
    layers.Dense: lambda layer, given, weights: _with_bias(
        layer, f"{given[0]} @ {weights[0]}", weights
    ),
    layers.Conv2D: _convolution("brcihw,hwio->brco"),
    layers.DepthwiseConv2D: _convolution("brcihw,hwim->brcim"),
    layers.BatchNormalization: _batch_normalization,
    layers.Activation: lambda layer, given, weights: _activated(layer, given[0]),
    layers.ReLU: _relu,
    layers.Softmax: lambda layer, given, weights: (
        f"softmax({given[0]})" if layer.axis == -1 else None
    ),
    layers.MaxPooling2D: _pooling("float('-inf')"),
    layers.AveragePooling2D: _pooling(),
    layers.GlobalAveragePooling1D: "{0}.mean((1,), keepdims={layer.keepdims})",
    layers.GlobalAveragePooling2D: "{0}.mean((1, 2), keepdims={layer.keepdims})",
    layers.GlobalMaxPooling2D: "highest({0}, (1, 2), {layer.keepdims})",
    layers.Add: lambda layer, given, weights: " + ".join(given),
    layers.Multiply: lambda layer, given, weights: " * ".join(given),
    layers.Concatenate: lambda layer, given, weights: f"joined([{', '.join(given)}], {layer.axis})",
}
