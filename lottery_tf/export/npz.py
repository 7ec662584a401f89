"""Writes arrays for other frameworks: surviving weights, their places, and code to read them."""

import json
import math
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from lottery_tf.export import numpy_recipe
from lottery_tf.export.formats import Options
from lottery_tf.export.keras_file import of_keras
from lottery_tf.export.signatures import write_assets
from lottery_tf.masking.network import free_name
from lottery_tf.pruning import Array
from lottery_tf.runs import files
from lottery_tf.structure.graph import graph_of

# Settings of a layer that do not change what it computes.
NOT_SHOWN = {"name", "trainable", "dtype", "seed", "momentum", "batch_shape", "data_format"}
README = """\
# {name}

A network as arrays, written by lottery_tf. Of a weight that is stored sparsely, `weights.npz` has
`<name>.values`, `<name>.indices` (of the flat array in row-major order, ascending) and
`<name>.shape`; every other weight is one array `<name>`. `names` lists them all in order.
`model.json` is the network's architecture as Keras writes it: in Keras,
`keras.models.model_from_json(text).set_weights(list_of_arrays)`.

With NumPy alone:

```python
import numpy as np

arrays = {{}}
with np.load("weights.npz", allow_pickle=False) as stored:
    for name in stored["names"].tolist():
        if name in stored:
            arrays[name] = stored[name]
            continue
        values, shape = stored[f"{{name}}.values"], stored[f"{{name}}.shape"]
        flat = np.zeros(np.prod(shape), values.dtype)
        flat[stored[f"{{name}}.indices"]] = values
        arrays[name] = flat.reshape(shape)
```

Kernels multiply from the right: that of a dense layer is (inputs, outputs), that of a convolution
(height, width, channels in, channels out); channels come last.

## Inputs and outputs

{signature}

{recipe}
## Layers, in the order of their execution

| layer | kind | reads | gives | settings | weights |
|---|---|---|---|---|---|
{layers}

## Weights, in order

| name | shape | type | not zero |
|---|---|---|---|
{weights}
"""


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write weights.npz, model.json and a README.md with the code to read them."""
    model = of_keras(model, options)
    names: list[str] = []
    for variable in model.weights:
        names.append(free_name(variable.path, names))
    weights = dict(zip(names, model.get_weights(), strict=True))
    stored = {"names": np.array(names)}
    for name, array in weights.items():
        stored |= {name: array} if options.dense else coded(name, array)
    (directory / "weights.npz").write_bytes(files.format_npz(stored, compressed=True))
    (directory / "model.json").write_text(model.to_json(indent=1), "utf-8")
    (directory / "README.md").write_text(_readme(model, weights, options), "utf-8")
    write_assets(directory, options)


def load(directory: str) -> keras.Model:
    """Return the model. It runs where this package cannot be imported."""
    import keras
    import numpy as np

    with open(f"{directory}/model.json", encoding="utf-8") as file:
        model = keras.models.model_from_json(file.read())
    arrays = []
    with np.load(f"{directory}/weights.npz", allow_pickle=False) as stored:
        for name in stored["names"].tolist():
            if name in stored:
                arrays.append(stored[name])
                continue
            values, shape = stored[f"{name}.values"], stored[f"{name}.shape"]
            flat = np.zeros(np.prod(shape), values.dtype)
            flat[stored[f"{name}.indices"]] = values
            arrays.append(flat.reshape(shape))
    model.set_weights(arrays)
    return model


def coded(name: str, array: Array) -> dict[str, Array]:
    """Return {name: array}; or values, indices and shape where these take fewer bytes.

    The indices are of the flat array, ascending, in the smallest unsigned type.
    """
    flat = array.reshape(-1)
    places = np.flatnonzero(flat)
    indices = places.astype(np.min_scalar_type(max(flat.size - 1, 0)))
    values = flat[places]
    if values.nbytes + indices.nbytes >= array.nbytes:
        return {name: array}
    shape = np.array(array.shape, np.int64)
    return {f"{name}.values": values, f"{name}.indices": indices, f"{name}.shape": shape}


RECIPE = """\
## Run it with NumPy

With `arrays` from above, `run({{{inputs}}})` computes the network layer by layer. An input of
another type or size is a `ValueError` that names both.

```python
{numpy}```

## Run it with JAX

After the code above:

```python
import jax
import jax.numpy as np  # `run` computes with it from here on

{jax}run_jax = jax.jit(run)
```

`run_jax({{{inputs}}})` takes arrays of NumPy or JAX.

## Run it with PyTorch

After the code for NumPy:

```python
import torch

arrays = {{name: torch.from_numpy(array) for name, array in arrays.items()}}

{torch}```

`run({{{inputs}}})` takes tensors, with gradients if these are asked for.

"""
NO_RECIPE = """\
## Run it

These layers are not written out in NumPy here: {unknown}. `model.json` and the table below have
their settings.
"""


def _readme(model: keras.Model, weights: dict[str, Array], options: Options) -> str:
    """Return the text of README.md."""
    sides = [f"- takes `{tensor.name}`, {_described(tensor)}" for tensor in model.inputs]
    sides += [f"- normalises by {options.normalisation}"] if options.normalisation else []
    sides += [f"- gives {_described(tensor)}" for tensor in model.outputs]
    graph = graph_of(model)
    variables = [id(variable) for variable in model.weights]
    code = numpy_recipe.recipe(graph, dict(zip(variables, weights, strict=True)))
    if code.numpy:
        inputs = ", ".join(f'"{tensor.name}": {tensor.name}' for tensor in model.inputs)
        own = {"jax": code.jax and f"{code.jax}\n\n", "torch": code.torch}
        run = RECIPE.format(inputs=inputs, numpy=code.numpy, **own)
    else:
        kinds = ", ".join(f"{name} ({kind})" for name, kind in code.unknown.items())
        run = NO_RECIPE.format(unknown=kinds)
    names = dict(zip(graph.inputs, (tensor.name for tensor in model.inputs), strict=True))
    names |= {number: call.name for call in graph.calls for number in call.outputs}
    layers = [
        (
            call.name,
            type(call.layer).__name__,
            ", ".join(names[number] for number in call.inputs),
            ", ".join(_size((None, *graph.shapes[number])) for number in call.outputs),
            _settings(call.layer).replace("|", "/"),
            sum(math.prod(weight.shape) for weight in getattr(call.layer, "weights", ())),
        )
        for call in graph.calls
    ]
    rows = [
        (name, " x ".join(map(str, array.shape)), array.dtype, np.count_nonzero(array))
        for name, array in weights.items()
    ]
    return README.format(
        name=model.name,
        signature="\n".join(sides),
        layers=_table(layers),
        weights=_table(rows),
        recipe=run,
    )


def _table(rows: list[tuple]) -> str:
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in rows)


def _settings(layer: keras.Layer) -> str:
    """Return how a layer computes, from its configuration: "units 300, activation relu"."""
    try:
        config = layer.get_config()
    except (AttributeError, NotImplementedError):  # operations of keras.ops have none
        return ""
    shown = []
    for name, value in config.items():
        starts = name.endswith(("_initializer", "_regularizer", "_constraint"))
        if name in NOT_SHOWN or value is None or starts:
            continue
        if isinstance(value, dict):
            value = value.get("class_name", value)
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        shown.append(f"{name} {text}")
    return ", ".join(shown)


def _described(tensor: keras.KerasTensor) -> str:
    """Return the type and shape of a tensor, as "float32 any x 28 x 28"."""
    return f"{tensor.dtype} {_size(tensor.shape)}"


def _size(shape: Sequence[int | None]) -> str:
    """Return a shape as "any x 28 x 28"."""
    return " x ".join("any" if length is None else str(length) for length in shape)
