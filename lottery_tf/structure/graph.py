"""Turns a functional model into a flat list of calls, nested models inlined, tensors numbered."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.network import free_name

Shape = tuple  # of a tensor, without the batch; None is a length that varies


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of a tensor in the arguments of a call: an index of Call.inputs."""

    index: int


@dataclasses.dataclass(eq=False)
class Call:
    """A layer, or an operation of keras.ops, applied once."""

    name: str  # of the layer; unique in the graph, but for the calls of a shared one with weights
    layer: Any
    inputs: list[int]  # numbers of tensors
    outputs: list[int]
    args: tuple  # of the call, with a Slot for each tensor
    kwargs: dict[str, Any]
    shared: bool = False  # whether the layer is called elsewhere too

    @property
    def kind(self) -> Any:
        """The class of the layer; of a masked layer, and of one made faster, the plain class."""
        return getattr(type(self.layer), "plain", type(self.layer))

    @property
    def has_weights(self) -> bool:
        """Whether the layer has variables; an operation has none."""
        return bool(getattr(self.layer, "weights", ()))


@dataclasses.dataclass
class Graph:
    """The calls of a functional model in their order, nested models replaced by what they call."""

    model: keras.Model
    calls: list[Call]
    shapes: list[Shape]  # of each tensor
    inputs: list[int]  # numbers of the model's tensors
    outputs: list[int]

    def channels(self, tensor: int) -> int:
        """Return the length of a tensor's last axis; 0 if it has none, or one that varies."""
        shape = self.shapes[tensor]
        return shape[-1] or 0 if shape else 0

    def consumers(self, tensor: int) -> int:
        """Return how often a tensor is used, by calls and as an output."""
        calls = sum(call.inputs.count(tensor) for call in self.calls)
        return calls + self.outputs.count(tensor)

    def number(self, numbers: dict[int, int], tensors: Sequence[keras.KerasTensor]) -> list[int]:
        """Return the numbers of tensors; new ones are added to {id of the tensor: number}."""
        for tensor in tensors:
            if id(tensor) not in numbers:
                numbers[id(tensor)] = len(self.shapes)
                self.shapes.append(tuple(tensor.shape[1:]))
        return [numbers[id(tensor)] for tensor in tensors]


def graph_of(model: keras.Model) -> Graph:
    """Return the Graph of a model.

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
    graph.inputs += graph.number(numbers, functional.inputs)
    _inline(graph, numbers, functional, "")
    graph.outputs += [numbers[id(tensor)] for tensor in functional.outputs]
    _name(graph)
    return graph


def _inline(graph: Graph, numbers: dict[int, int], functional: keras.Model, prefix: str) -> None:
    """Add the calls of a functional model whose inputs are numbered, and number its outputs."""
    for node in keras_private.nodes(functional):
        if node.is_input:
            continue
        inputs = [numbers[id(tensor)] for tensor in node.input_tensors]
        name, inner = node.operation.name, _nested(node)
        if inner is None:
            args, kwargs = _slots(node)
            outputs = graph.number(numbers, node.outputs)
            graph.calls.append(Call(prefix + name, node.operation, inputs, outputs, args, kwargs))
            continue
        # A model that is called twice has the same inner tensors each time: numbers of its own.
        own = {id(tensor): at for tensor, at in zip(inner.inputs, inputs, strict=True)}
        _inline(graph, own, inner, f"{prefix}{name}_")
        for tensor, result in zip(node.outputs, inner.outputs, strict=True):
            numbers[id(tensor)] = own[id(result)]


def _nested(node: Any) -> keras.Model | None:
    """Return the functional model that a node calls in a way that can be inlined, or None."""
    model = node.operation
    inner = keras_private.functional(model) if isinstance(model, keras.Model) else None
    options = any(value is not None for value in node.arguments.kwargs.values())
    if inner is None or options or len(inner.inputs) != len(node.input_tensors):
        return None
    return inner


def _slots(node: Any) -> tuple[tuple, dict[str, Any]]:
    """Return the arguments of a node, with a Slot in the place of each tensor."""
    places = iter(range(len(node.input_tensors)))

    def slot(argument: object) -> object:
        return Slot(next(places)) if isinstance(argument, keras.KerasTensor) else argument

    return keras.tree.map_structure(slot, (node.arguments.args, node.arguments.kwargs))


def _name(graph: Graph) -> None:
    """Mark shared layers, and give calls unique names.

    Layers of nested models get their own names where these are unique. A layer with weights has
    one name in all of its calls; one without is built anew in each, under a name of its own.
    """
    times = collections.Counter(id(call.layer) for call in graph.calls)
    taken = {tensor.name for tensor in graph.model.inputs}
    of_layer: dict[int, str] = {}
    for call in graph.calls:
        call.shared = times[id(call.layer)] > 1
        if id(call.layer) not in of_layer:
            own = call.layer.name
            of_layer[id(call.layer)] = free_name(call.name, taken, 2) if own in taken else own
            taken.add(of_layer[id(call.layer)])
        call.name = of_layer[id(call.layer)]
    seen: set[str] = set()
    for call in graph.calls:
        if call.name in seen and not call.has_weights:
            call.name = free_name(call.name, taken, 2)
            taken.add(call.name)
        seen.add(call.name)
