"""Channels of a masked network that must go together, as the Units of structured pruning.

A channel is made by the kernels whose outputs flow into it, and read by the kernels that it flows
into: layers without a kernel tie channels (`Channels`), as a residual addition, BatchNorm, a
depthwise convolution or a concatenation do. A pruned channel loses the weights that make it and
those that read it. So it has no effect, whatever its biases and BatchNorm's offsets are, which have
no masks and stay as they are; compaction removes all of it.

The heads of attention are channels, too: a head goes from all of its projections. Where heads share
keys and values, those that do go together.
"""

from collections.abc import Mapping

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.masking import keras_private
from lottery_tf.masking.network import free_name
from lottery_tf.pruning import Array
from lottery_tf.pruning.structure import Member, Units
from lottery_tf.structure.graph import graph_of
from lottery_tf.structure.steps import (
    ATTENTION,
    OUTPUTS,
    SEPARABLE,
    Channels,
    Depthwise,
    Linear,
    Step,
    Unchanged,
    Weighted,
    fixed,
    steps_of,
)

Paths = Mapping[tuple[int, str], str]  # {(id of a layer, attribute of a kernel): its path}


def channels_of(network: keras.Model) -> tuple[Units, dict[str, str]]:
    """Return the channels of a masked network, and {kernel path: why its outputs stay}.

    The network's own outputs stay, and are not named.

    Raises:
        InputError: the network has no graph: it is not functional or sequential.
    """
    kernels = masking.kernels(network)
    paths = {
        (id(kernel.layer), name): path
        for path, kernel in kernels.items()
        for name in kernel.layer.kernel_names
        if keras_private.stored_variable(kernel.layer, name) is kernel.variable
    }
    graph = graph_of(network)
    steps, _ = steps_of(graph)
    channels = Channels(graph, steps)
    count = len(channels.kept)  # the heads of attention are numbered behind the groups
    stays: dict[int, str] = {}  # {group: why}
    for tensor, reason in fixed(graph, steps):
        for group in channels.groups[tensor]:
            stays.setdefault(int(group), reason)
    for step in steps:
        if isinstance(step, Linear) and _path(step, paths) is None:
            for group in channels.groups[step.call.outputs[0]]:
                stays.setdefault(int(group), f"{step.call.name} has no mask")

    members: dict[str, list[Member]] = {path: [] for path in kernels}
    left = dict.fromkeys(kernels, "it is not in the graph of the model")
    for step in steps:
        path = _path(step, paths)
        if path is not None:
            members[path] += _members(step, channels)
            groups = channels.groups[step.call.outputs[0]].tolist()
            if isinstance(step, Depthwise) or not all(group in stays for group in groups):
                del left[path]
            else:
                left[path] = stays[groups[0]]
        elif isinstance(step, Unchanged):
            inside = {id(one) for one in keras_private.flatten_layers(step.call.layer)}
            left |= {path: step.why for (layer, _), path in paths.items() if layer in inside}
            heads = _heads(step.call.layer, paths) if step.call.kind in ATTENTION else {}
            for path, units in heads.items():
                members[path].append(Member(count + units))
                del left[path]
            count += max((int(units.max()) + 1 for units in heads.values()), default=0)
    found = _of_free(members, [group not in stays for group in range(count)])
    return found, {path: reason for path, reason in left.items() if reason != OUTPUTS}


def _path(step: Step, paths: Paths) -> str | None:
    """Return the path of the masked kernel of a step; None without one."""
    name = "kernel"
    if step.call.kind in SEPARABLE:
        name = "depthwise_kernel" if isinstance(step, Depthwise) else "pointwise_kernel"
    return paths.get((id(step.call.layer), name)) if isinstance(step, Weighted) else None


def _members(step: Step, channels: Channels) -> list[Member]:
    """Return the groups of a kernel's weights: those that it makes, and those that it reads."""
    made, read = (channels.groups[tensor[0]] for tensor in (step.call.outputs, step.call.inputs))
    if isinstance(step, Linear):
        taps = (1,) * len(step.taps)
        columns, rows = (*taps, 1, -1), (*taps, -1, 1)
        if step.transposed:
            columns, rows = rows, columns
        return [Member(made.reshape(columns)), Member(read.reshape(rows), own=False)]
    assert isinstance(step, Depthwise), "a layer with a kernel is one of the two"
    return [Member(made.reshape(*(1,) * len(step.taps), -1, step.multiplier), own=False)]


def _heads(layer: keras.Layer, paths: Paths) -> dict[str, Array]:
    """Return {kernel path: the head of each weight} of attention; {} if a projection has no mask.

    Queries that share keys and values are one head.
    """
    projections = keras_private.projections(layer)
    found = {name: paths.get((id(one), "kernel")) for name, one in projections.items()}
    shapes = {name: tuple(one.kernel.shape) for name, one in projections.items()}
    heads, units = shapes["key"][1], {}
    for name, path in found.items():
        if path is None:
            return {}
        axis = 0 if name == "output" else 1  # (features, heads, size); (heads, size, features)
        numbers = np.arange(shapes[name][axis]) // (shapes[name][axis] // heads)
        units[path] = numbers.reshape([-1 if at == axis else 1 for at in range(len(shapes[name]))])
    return units


def _of_free(members: Mapping[str, list[Member]], is_free: list[bool]) -> Units:
    """Return the Units of the groups that are free and that a kernel makes, numbered anew.

    Those that the same kernels make and read compete: channels of one layer, or of a residual
    stream between the same layers.
    """
    roles = {}  # {(path, which of its members): bool (groups,)}
    made = np.zeros(len(is_free), bool)
    for path, found in members.items():
        for number, member in enumerate(found):
            roles[path, number] = np.zeros(len(is_free), bool)
            roles[path, number][member.units.ravel()] = True
            made |= roles[path, number] & member.own
    free = np.array(is_free, bool) & made
    rank = np.where(free, np.cumsum(free) - 1, -1)
    kept = {
        path: tuple(Member(rank[member.units], member.own) for member in found)
        for path, found in members.items()
    }
    packed = np.packbits([role[free] for role in roles.values()], axis=0).T  # (units, bytes)
    _, first, labels = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    sets: dict[str, Array] = {}
    for label in np.argsort(first):
        units = np.flatnonzero(labels.ravel() == label)
        group = np.flatnonzero(free)[units[0]]
        makers = (path for (path, n), role in roles.items() if role[group] and members[path][n].own)
        sets[free_name(next(makers), sets)] = units
    return Units(sets, kept)
