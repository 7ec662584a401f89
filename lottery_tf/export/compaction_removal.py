"""Which channels of a network are removed: those without effect, and constants that fold away."""

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lottery_tf.export.compaction_kernels import Linear
from lottery_tf.export.compaction_kinds import Facts, Sizes, Untreated
from lottery_tf.export.compaction_simplify import Step
from lottery_tf.export.graph import Graph
from lottery_tf.pruning import Array


def facts_of(graph: Graph, steps: list[Step]) -> dict[int, Facts]:
    """{tensor: Facts}: constants carried forward from layers without incoming weights."""
    facts = {tensor: Facts.unknown(graph.channels(tensor)) for tensor in graph.inputs}
    for step in steps:
        inputs = [facts[tensor] for tensor in step.call.inputs]
        if isinstance(step.kind, Untreated):
            for tensor in step.call.outputs:
                facts[tensor] = Facts.unknown(graph.channels(tensor))
        else:
            facts[step.call.outputs[0]] = step.kind.constants(inputs, sizes_of(graph, step))
    return facts


def sizes_of(graph: Graph, step: Step) -> Sizes:
    """The channels of a step's inputs and of its first output."""
    call = step.call
    return Sizes([graph.channels(i) for i in call.inputs], graph.channels(call.outputs[0]))


def _where(graph, step):
    """The input channels that the output channels of a step are tied to, for each input."""
    tied = None if isinstance(step.kind, Untreated) else step.kind.where(sizes_of(graph, step))
    return tied or []


@dataclasses.dataclass
class Channels:
    """The channels of all tensors, in groups that are kept or removed together.

    Attributes:
        groups: {tensor: int (channels,)}: the group of each channel.
        kept: bool (groups,).
    """

    groups: dict[int, Array]
    kept: Array

    @classmethod
    def of(cls, graph: Graph, steps: list[Step]) -> "Channels":
        """A layer without a kernel ties its output channels to those of its inputs."""
        tensors = sorted({*graph.inputs, *(t for step in steps for t in step.call.outputs)})
        starts = dict(zip(tensors, np.cumsum([0, *map(graph.channels, tensors)]), strict=False))
        count = sum(map(graph.channels, tensors))
        ends: tuple[list, list] = ([], [])
        for step in steps:
            for tensor, places in zip(step.call.inputs, _where(graph, step), strict=False):
                ends[0].append(starts[tensor] + places[places >= 0])
                ends[1].append(starts[step.call.outputs[0]] + np.flatnonzero(places >= 0))
        one, other = (np.concatenate([[], *end]).astype(int) for end in ends)
        ties = coo_array((np.ones(len(one)), (one, other)), shape=(count, count))
        number, labels = connected_components(ties, directed=False)
        groups = {t: labels[starts[t] : starts[t] + graph.channels(t)] for t in tensors}
        return cls(groups, np.zeros(number, bool))

    def of_tensor(self, tensor: int) -> Array:
        """Which channels of a tensor are kept: bool (channels,)."""
        return self.kept[self.groups[tensor]]

    def keep(self, tensor: int, channels: Array | slice = slice(None)) -> None:
        """Keeps some channels of a tensor, and all that are tied to them."""
        self.kept[self.groups[tensor][channels]] = True


def kept_channels(graph: Graph, steps: list[Step], facts: dict[int, Facts]) -> dict[int, Array]:
    """{tensor: the numbers of the channels that stay}, the fewest that keep the outputs equal.

    Begins with the inputs and outputs of the model and of layers that are left as they are, and
    adds what those that stay depend on, until nothing is added: so what only serves itself goes.
    """
    channels = Channels.of(graph, steps)
    for tensor in graph.inputs + graph.outputs:
        channels.keep(tensor)
    for step in steps:
        if isinstance(step.kind, Untreated):
            for tensor in step.call.inputs + step.call.outputs:
                channels.keep(tensor)
        elif isinstance(step.kind, Linear) and step.kind.whole:
            channels.keep(step.call.outputs[0])
    linear = [(step, step.kind.links()) for step in steps if isinstance(step.kind, Linear)]
    before = -1
    while before < channels.kept.sum():
        before = channels.kept.sum()
        for step, links in reversed(linear):
            _keep_read(channels, step, links, facts[step.call.inputs[0]])
        for tensor, groups in channels.groups.items():
            if len(groups) and not channels.of_tensor(tensor).any():  # no layer has no units
                known = ~np.isnan(facts[tensor].constant)
                channels.keep(tensor, np.array([np.argmax(known)]))
    return {tensor: np.flatnonzero(channels.of_tensor(tensor)) for tensor in channels.groups}


def _keep_read(channels, step, links, facts):
    """Keeps the inputs that the kept outputs of a layer with a kernel depend on."""
    tensor, out = step.call.inputs[0], step.call.outputs[0]
    read = links[:, channels.of_tensor(out)].any(1)
    channels.keep(tensor, read & np.isnan(facts.constant))
    at_borders = ~np.isnan(facts.constant) & ~step.kind.foldable(facts)
    if (read & at_borders).any() and not channels.of_tensor(tensor)[at_borders].any():
        # One constant channel stands for all of them where padding cuts constants off.
        sizes = np.where(read & at_borders, np.abs(facts.constant), 0)
        channels.keep(tensor, np.array([np.argmax(sizes)]))
