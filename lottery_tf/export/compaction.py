"""A smaller network that computes the same: units without effect are removed for real.

A unit is without effect if no weight leads from it to the outputs, or if no weight leads from the
inputs to it: then it is a constant, which goes into the biases behind it.
"""

import dataclasses
from typing import Any

import keras

from lottery_tf.export import flops
from lottery_tf.export.compaction_kinds import Built, Untreated, rebuild
from lottery_tf.export.compaction_removal import facts_of, kept_channels
from lottery_tf.export.compaction_simplify import steps_of
from lottery_tf.export.flops import Count
from lottery_tf.export.graph import graph_of
from lottery_tf.masking import keras_private


@dataclasses.dataclass
class LayerChange:
    """What a compaction did to a layer; each pair is before and after.

    Attributes:
        units: output channels.
        weights, nonzero: of its kernels.
        products: multiply-adds for one example with all weights; those of its nonzero weights are
            `sparse`.
    """

    units: tuple[int, int]
    weights: tuple[int, int]
    nonzero: tuple[int, int]
    products: tuple[int, int]
    sparse: tuple[int, int]


@dataclasses.dataclass
class Report:
    """What a compaction did.

    Attributes:
        layers: {name: LayerChange} of the layers with kernels, in their order. A separable
            convolution is split; its first part is called <name>_depthwise.
        removed: {layer that went: why}, as a BatchNorm that was folded.
        left: {layer that was left as it is: why}.
        not_counted: {layer whose multiply-adds are not known: why}.
    """

    layers: dict[str, LayerChange]
    removed: dict[str, str]
    left: dict[str, str]
    not_counted: dict[str, str]

    def total(self, what: str) -> tuple[int, int]:
        """The sum over layers, before and after, of a field of LayerChange."""
        pairs = [getattr(layer, what) for layer in self.layers.values()]
        return sum(before for before, _ in pairs), sum(after for _, after in pairs)


def compact(model: Any) -> tuple[keras.Model, Report]:
    """(A smaller functional model with the same inputs and outputs, what was done).

    Units and channels without effect are removed, constant ones folded into the biases behind
    them, BatchNorm into what it normalises, and what does nothing in inference left out. Outputs
    are equal up to rounding in inference; gradients and training are not. The model's inputs stay
    as they are; where few of a layer's inputs have weights, those are gathered.

    Args:
        model: a plain Keras model, functional or sequential, built, whose pruned weights are
            zeros. It is not changed.

    Raises:
        InputError: it is another kind of model.
    """
    graph = graph_of(model)
    before, not_counted = flops.multiply_adds_of(graph)
    units = _units(graph)
    steps, removed = steps_of(graph)
    facts = facts_of(graph, steps)
    kept = kept_channels(graph, steps, facts)
    smaller = _build(model, graph, steps, facts, kept)
    after_graph = graph_of(smaller)
    after, _ = flops.multiply_adds_of(after_graph)
    layers = _changes((before, after), (units, _units(after_graph)))
    left = {s.call.name: s.kind.reason for s in steps if isinstance(s.kind, Untreated)}
    return smaller, Report(layers, removed, left, not_counted)


def _build(model, graph, steps, facts, kept):
    """The functional model of the kept channels."""
    inputs, outputs = keras_private.structures(graph.model)
    inputs = keras.tree.map_structure(_input, inputs)
    tensors = dict(zip(graph.inputs, keras.tree.flatten(inputs), strict=True))
    made: dict[int, Any] = {}
    for step in steps:
        call = step.call
        given = [tensors[tensor] for tensor in call.inputs]
        if isinstance(step.kind, Untreated):
            results = keras.tree.flatten(rebuild(call, given, made))
            tensors |= dict(zip(call.outputs, results, strict=True))
            continue
        of_inputs, known = ([of[tensor] for tensor in call.inputs] for of in (kept, facts))
        out = call.outputs[0]
        tensors[out] = step.kind.build(Built(given, of_inputs, kept[out], known))
    results = keras.tree.pack_sequence_as(outputs, [tensors[tensor] for tensor in graph.outputs])
    return keras.Model(inputs, results, name=model.name)


def _input(tensor):
    """A new input of the same name, shape and dtype."""
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _units(graph):
    """{layer: its output channels}."""
    return {call.name: graph.channels(call.outputs[0]) for call in graph.calls}


def _changes(counts, units):
    """{layer: LayerChange} of the layers that have kernels before or after."""
    names = [*counts[0], *(name for name in counts[1] if name not in counts[0])]
    pairs = {name: [of.get(name, Count()) for of in counts] for name in names}
    return {
        name: LayerChange(
            tuple(of.get(name, 0) for of in units),
            *(
                tuple(getattr(count, what) for count in pair)
                for what in ("weights", "nonzero", "dense", "sparse")
            ),
        )
        for name, pair in pairs.items()
    }
