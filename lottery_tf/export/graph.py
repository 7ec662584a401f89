"""A functional model as a flat list of calls: nested models inlined, tensors numbered."""

import collections
import dataclasses
import itertools
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of a tensor in the arguments of a call: an index of Call.inputs."""

    index: int


@dataclasses.dataclass(eq=False)
class Call:
    """A layer, or an operation of keras.ops, applied once.

    Attributes:
        name: of the layer; unique in the graph, but for the calls of a shared layer with weights.
        layer: the Keras layer or operation.
        inputs, outputs: numbers of tensors.
        args, kwargs: of the call, with a Slot for each tensor.
        shared: whether the layer is called elsewhere too.
    """

    name: str
    layer: Any
    inputs: list[int]
    outputs: list[int]
    args: tuple
    kwargs: dict[str, Any]
    shared: bool = False


@dataclasses.dataclass
class Graph:
    """The calls of a model in the order of their execution.

    Attributes:
        model: the functional keras.Model.
        calls: nested models have been replaced by what they call.
        shapes: of each tensor, without the batch; None is a length that varies.
        inputs, outputs: numbers of the model's tensors.
    """

    model: Any
    calls: list[Call]
    shapes: list[tuple]
    inputs: list[int]
    outputs: list[int]

    def channels(self, tensor: int) -> int:
        """The length of a tensor's last axis; 0 if it has none, or one that varies."""
        shape = self.shapes[tensor]
        return shape[-1] or 0 if shape else 0

    def consumers(self, tensor: int) -> int:
        """How often a tensor is used, by calls and as an output."""
        calls = sum(call.inputs.count(tensor) for call in self.calls)
        return calls + self.outputs.count(tensor)


def graph_of(model: Any) -> Graph:
    """The Graph of a model.

    Raises:
        InputError: it is not a built functional or sequential Keras model.
    """
    functional = keras_private.functional(model) if isinstance(model, keras.Model) else None
    if functional is None:
        raise InputError(
            "Expected a functional or sequential Keras model that is built (give a Sequential a "
            f"keras.Input first). Received: {type(model).__name__} {getattr(model, 'name', '')}. "
            "Write a model with a call of its own as a functional one."
        )
    graph = Graph(functional, [], [], [], [])
    numbers: dict[int, int] = {}
    for tensor in functional.inputs:
        graph.inputs.append(_number(graph, numbers, tensor))
    _inline(graph, numbers, functional, "")
    graph.outputs += [numbers[id(tensor)] for tensor in functional.outputs]
    _name(graph)
    return graph


def _number(graph, numbers, tensor):
    """The number of a tensor; a new one if it has none."""
    if id(tensor) not in numbers:
        numbers[id(tensor)] = len(graph.shapes)
        graph.shapes.append(tuple(tensor.shape[1:]))
    return numbers[id(tensor)]


def _inline(graph, numbers, functional, prefix):
    """Adds the calls of a functional model whose inputs are numbered, and numbers its outputs."""
    for node in keras_private.nodes(functional):
        if node.is_input:
            continue
        inputs = [numbers[id(tensor)] for tensor in node.input_tensors]
        name, inner = node.operation.name, _nested(node)
        if inner is None:
            outputs = [_number(graph, numbers, tensor) for tensor in node.outputs]
            args, kwargs = _slots(node)
            graph.calls.append(Call(prefix + name, node.operation, inputs, outputs, args, kwargs))
            continue
        # A model that is called twice has the same inner tensors each time: numbers of its own.
        own = {id(tensor): at for tensor, at in zip(inner.inputs, inputs, strict=True)}
        _inline(graph, own, inner, f"{prefix}{name}_")
        for tensor, result in zip(node.outputs, inner.outputs, strict=True):
            numbers[id(tensor)] = own[id(result)]


def _nested(node):
    """The functional model that a node calls in a way that can be inlined, or None."""
    inner = (
        keras_private.functional(node.operation)
        if isinstance(node.operation, keras.Model)
        else None
    )
    options = any(value is not None for value in node.arguments.kwargs.values())
    if inner is None or options or len(inner.inputs) != len(node.input_tensors):
        return None
    return inner


def _slots(node):
    """The arguments of a node, with a Slot in the place of each tensor."""
    places = iter(range(len(node.input_tensors)))

    def slot(argument):
        return Slot(next(places)) if isinstance(argument, keras.KerasTensor) else argument

    return keras.tree.map_structure(slot, (node.arguments.args, node.arguments.kwargs))


def _name(graph):
    """Marks shared layers, and gives inner layers their own names where these are unique."""
    times = collections.Counter(id(call.layer) for call in graph.calls)
    of_layer: dict[int, str] = {}
    inputs = {tensor.name for tensor in graph.model.inputs}
    for call in graph.calls:
        call.shared = times[id(call.layer)] > 1
        if id(call.layer) not in of_layer:
            taken = inputs | set(of_layer.values())
            names = [call.layer.name, call.name, *(f"{call.name}_{n}" for n in range(2, 100))]
            of_layer[id(call.layer)] = next(name for name in names if name not in taken)
        call.name = of_layer[id(call.layer)]
    _name_calls(graph.calls, inputs | set(of_layer.values()))


def _name_calls(calls, taken):
    """Gives further calls of a layer without weights names of their own: each is built alone."""
    seen: set[str] = set()
    for call in calls:
        if call.name in seen and not getattr(call.layer, "weights", ()):
            names = (f"{call.name}_{index}" for index in itertools.count(2))
            call.name = next(name for name in names if name not in taken)
            taken.add(call.name)
        seen.add(call.name)
