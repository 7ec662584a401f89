"""Writes a network as lines of NumPy, which the README of an npz export tells its reader to run."""

from collections.abc import Callable, Mapping, Sequence

import keras

from lottery_tf.structure.graph import Call, Graph

layers = keras.layers
Names = list[str]  # of arrays, as expressions
Line = Callable[[keras.Layer, Names, Names], str | None]  # (layer, inputs, weights) -> expression

SAME = '''\
def padded(x, sizes, strides, value=0.0):
    """Borders as TensorFlow's "same" padding adds them."""
    needed = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[1:3], sizes, strides)
    ]
    borders = [(n // 2, n - n // 2) for n in needed]
    return np.pad(x, [(0, 0), *borders, (0, 0)], constant_values=value)
'''
WINDOWS = '''\
def windows(x, sizes, strides):
    """(batch, rows, columns, channels, height, width) of what a kernel of some size sees."""
    every = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=(1, 2))
    return every[:, :: strides[0], :: strides[1]]
'''
HELPERS = {
    "padded(": SAME,
    "windows(": WINDOWS,
    "merged(": '''\
def merged(x):
    """The channels in and their multiplier as one axis."""
    return x.reshape(*x.shape[:3], -1)
''',
    "softmax(": """\
def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
""",
    "sigmoid(": """\
def sigmoid(x):
    return 1 / (1 + np.exp(-x))
""",
}
ACTIVATIONS = {
    "linear": "{}",
    "relu": "np.maximum({}, 0)",
    "tanh": "np.tanh({})",
    "sigmoid": "sigmoid({})",
    "softmax": "softmax({})",
}


def recipe(graph: Graph, names: Mapping[int, str]) -> tuple[str, dict[str, str]]:
    """Return the code that computes a network with NumPy alone, and {layer: class} without a line.

    There is no code where a layer has no line. `names` are {id of a variable: name of its array}.
    """
    tensors = {
        number: f"x[{tensor.name!r}]"
        for number, tensor in zip(graph.inputs, graph.model.inputs, strict=True)
    }
    lines, unknown = [], {}
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
        return "", unknown
    inputs = [tensor.name for tensor in graph.model.inputs]
    results = ", ".join(tensors[number] for number in graph.outputs)
    body = "\n".join(lines)
    helpers = [text for call, text in HELPERS.items() if call in body]
    about = f'"""Take {{name: array}} of {", ".join(inputs)}; give what the network gives."""'
    run = f"def run(x):\n    {about}\n    x = dict(x)\n{body}\n    return {results}\n"
    return "\n\n".join([*helpers, run]), {}


def is_plain(call: Call) -> bool:
    """Return whether a call is that of a layer with one output, without options or LoRA."""
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
        product = f"np.einsum({axes!r}, {seen}, {weights[0]}, optimize=True)"
        if axes.endswith("m"):  # depthwise: (…, channels in, multiplier)
            product = f"merged({product})"
        return _with_bias(layer, product, weights)

    return line


def _pooling(reduce: str, border: str | None = None) -> Line:
    def line(layer: keras.Layer, given: Names, weights: Names) -> str | None:
        one = all(size == 1 for size in layer.pool_size)
        if layer.padding == "same" and not (border or one):  # averages leave the borders out
            return None
        seen = _windows(layer, given[0], layer.pool_size, border or "0.0")
        return f"{seen}.{reduce}((4, 5))"

    return line


def _batch_normalization(layer: keras.Layer, given: Names, weights: Names) -> str | None:
    if layer.axis not in (-1, layer.input_spec.ndim - 1):
        return None
    *affine, mean, variance = weights
    scaled = f"({given[0]} - {mean}) / np.sqrt({variance} + {layer.epsilon})"
    if layer.scale:
        scaled += f" * {affine[0]}"
    return f"{scaled} + {affine[-1]}" if layer.center else scaled


def _relu(layer: keras.Layer, given: Names, weights: Names) -> str | None:
    plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    return f"np.maximum({given[0]}, 0)" if plain else None


# {class of layers: its Line, or the expression with {0} for its input and {layer} for itself}
LINES: dict[type, Line | str] = {
    layers.Identity: "{0}",
    layers.Dropout: "{0}",
    layers.SpatialDropout2D: "{0}",
    layers.Rescaling: (
        "np.asarray({0}, np.float32) * np.float32({layer.scale}) + np.float32({layer.offset})"
    ),
    layers.Flatten: "{0}.reshape(len({0}), -1)",
    layers.Reshape: "{0}.reshape(len({0}), *{layer.target_shape})",
    layers.Permute: "{0}.transpose(0, *{layer.dims})",
    layers.ZeroPadding2D: ("np.pad({0}, [(0, 0), {layer.padding[0]}, {layer.padding[1]}, (0, 0)])"),
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
    layers.MaxPooling2D: _pooling("max", "-np.inf"),
    layers.AveragePooling2D: _pooling("mean"),
    layers.GlobalAveragePooling1D: "{0}.mean((1,), keepdims={layer.keepdims})",
    layers.GlobalAveragePooling2D: "{0}.mean((1, 2), keepdims={layer.keepdims})",
    layers.GlobalMaxPooling2D: "{0}.max((1, 2), keepdims={layer.keepdims})",
    layers.Add: lambda layer, given, weights: " + ".join(given),
    layers.Multiply: lambda layer, given, weights: " * ".join(given),
    layers.Concatenate: lambda layer, given, weights: (
        f"np.concatenate([{', '.join(given)}], {layer.axis})"
    ),
}
