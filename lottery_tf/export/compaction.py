"""Makes a smaller network that computes the same, by removing units without effect.

A unit is without effect if no weight leads from it to the outputs, or if no weight leads from the
inputs to it: then it is a constant, which is added to the biases behind it. `structure/steps.py`
says what each layer does to its channels.
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from lottery_tf.export.flops import Count, multiply_adds
from lottery_tf.pruning import Array
from lottery_tf.structure.graph import Graph, graph_of
from lottery_tf.structure.steps import (
    Channels,
    Constants,
    Kept,
    Linear,
    Step,
    Unchanged,
    fixed,
    steps_of,
)

Change = tuple[int, int]  # before and after


@dataclasses.dataclass
class LayerChange:
    """The changes of a layer: its output channels, and the fields of its Count."""

    units: Change
    weights: Change
    nonzero: Change
    products: Change  # the Count's `dense`
    sparse: Change


@dataclasses.dataclass
class Report:
    """The changes that a compaction made."""

    # {name: LayerChange} of the layers with kernels, in their order. A separable convolution is
    # split; its first part is called <name>_depthwise.
    layers: dict[str, LayerChange]
    removed: dict[str, str]  # {layer that went: why}, as a BatchNorm that was folded
    left: dict[str, str]  # {layer that was left as it is: why}
    not_counted: dict[str, str]  # {layer whose multiply-adds are not known: why}

    def total(self, field: str) -> Change:
        """Return the sum over layers of a field of LayerChange."""
        pairs = [getattr(layer, field) for layer in self.layers.values()]
        return sum(before for before, _ in pairs), sum(after for _, after in pairs)

    def lines(self) -> list[str]:
        products, weights = self.total("products"), self.total("weights")
        lines = [f"compacted: multiply-adds {_arrow(products)}, weights {_arrow(weights)}"]
        lines += [
            f"  {name}: units {_arrow(layer.units)}, weights {_arrow(layer.weights)}, "
            f"multiply-adds {_arrow(layer.products)}"
            for name, layer in self.layers.items()
            if layer.weights[0] != layer.weights[1]
        ]
        lines += [f"  {name}: {why}" for name, why in self.removed.items()]
        lines += [f"  {name} is left as it is: {why}" for name, why in self.left.items()]
        return lines + [f"  {name} is not counted: {why}" for name, why in self.not_counted.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for a JSON file, and its lines."""
        return dataclasses.asdict(self) | {"lines": self.lines()}


def _arrow(change: Change) -> str:
    return f"{change[0]:,} -> {change[1]:,}"


def compact(model: keras.Model) -> tuple[keras.Model, Report]:
    """Return a smaller functional model with the same inputs and outputs, and a report.

    Compaction removes units and channels without effect, folds constant ones into the biases
    behind them and BatchNorm into the layer before, and drops layers that do nothing in inference.
    Outputs in inference are equal up to rounding; gradients and training are not. The model keeps
    its inputs. A layer that reads few of its inputs gathers those.

    Args:
        model: a plain Keras model, functional or sequential, built, whose pruned weights are
            zeros. It is not changed.

    Raises:
        InputError: it is another kind of model.
    """
    before, not_counted = multiply_adds(model)
    graph = graph_of(model)
    units = {call.name: graph.channels(call.outputs[0]) for call in graph.calls}
    steps, removed = steps_of(graph)
    constants = constants_of(graph, steps)
    kept = kept_channels(graph, steps, constants)

    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(
            batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name, sparse=tensor.sparse
        ),
        graph.model.input,
    )
    tensors = dict(zip(graph.inputs, keras.tree.flatten(inputs), strict=True))
    made: dict[int, keras.Layer] = {}
    for step in steps:
        read, (out, *_) = step.call.inputs, step.call.outputs
        given = [tensors[tensor] for tensor in read]
        if isinstance(step, Unchanged):
            results = keras.tree.flatten(step.rebuild(given, made))
            tensors |= dict(zip(step.call.outputs, results, strict=True))
        else:
            of_inputs = [kept[tensor] for tensor in read], [constants[tensor] for tensor in read]
            tensors[out] = step.build(Kept(given, of_inputs[0], kept[out], of_inputs[1]))
    flat = [tensors[tensor] for tensor in graph.outputs]
    results = keras.tree.pack_sequence_as(graph.model.output, flat)
    smaller = keras.Model(inputs, results, name=model.name)

    after, _ = multiply_adds(smaller)
    small = graph_of(smaller)
    units_after = {call.name: small.channels(call.outputs[0]) for call in small.calls}
    changes = {}
    for name in dict.fromkeys([*before, *after]):
        counts = [dataclasses.astuple(of.get(name, Count())) for of in (before, after)]
        channels = units.get(name, 0), units_after.get(name, 0)
        changes[name] = LayerChange(channels, *zip(*counts, strict=True))
    left = {step.call.name: step.reason for step in steps if isinstance(step, Unchanged)}
    return smaller, Report(changes, removed, left, not_counted)


def constants_of(graph: Graph, steps: list[Step]) -> dict[int, Constants]:
    """Return {tensor: Constants}, carried forward from layers without incoming weights."""
    unchanged = [out for step in steps if isinstance(step, Unchanged) for out in step.call.outputs]
    constants = {t: Constants.none(graph.channels(t)) for t in graph.inputs + unchanged}
    for step in steps:
        if not isinstance(step, Unchanged):
            inputs = [constants[tensor] for tensor in step.call.inputs]
            constants[step.call.outputs[0]] = step.constants(inputs)
    return constants


def kept_channels(
    graph: Graph, steps: list[Step], constants: dict[int, Constants]
) -> dict[int, Array]:
    """Return {tensor: the numbers of the channels that stay}, the fewest with equal outputs.

    It starts from the inputs and outputs of the model and of unchanged layers, and adds what these
    depend on until nothing is added. Channels that only serve each other are removed.
    """
    channels = Channels(graph, steps)
    for tensor, _ in fixed(graph, steps):
        channels.keep(tensor)
    linear = [(step, step.links()) for step in steps if isinstance(step, Linear)]
    before = -1
    while before < channels.kept.sum():
        before = channels.kept.sum()
        for step, links in reversed(linear):
            _keep_read(channels, step, links, constants[step.call.inputs[0]])
        for tensor, groups in channels.groups.items():
            if len(groups) and not channels.of_tensor(tensor).any():  # no layer has no units
                known = ~np.isnan(constants[tensor].values)
                channels.keep(tensor, np.array([np.argmax(known)]))
    return {tensor: np.flatnonzero(channels.of_tensor(tensor)) for tensor in channels.groups}


def _keep_read(channels: Channels, step: Linear, links: Array, constants: Constants) -> None:
    """Keep the inputs that the kept outputs of a layer with a kernel depend on."""
    tensor, known = step.call.inputs[0], ~np.isnan(constants.values)
    read = links[:, channels.of_tensor(step.call.outputs[0])].any(1)
    channels.keep(tensor, read & ~known)
    at_borders = known & ~step.foldable(constants)
    if (read & at_borders).any() and not channels.of_tensor(tensor)[at_borders].any():
        # One constant channel stands for all of them where padding cuts constants off.
        sizes = np.where(read & at_borders, np.abs(constants.values), 0)
        channels.keep(tensor, np.array([np.argmax(sizes)]))
