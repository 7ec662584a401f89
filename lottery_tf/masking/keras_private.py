"""Every use of a name that Keras keeps to itself; a new version of Keras is checked here.

Tried with Keras 3.15.
"""

from collections.abc import Callable
from typing import Any

import keras

from lottery_tf.errors import InputError


def flatten_layers(model: keras.Layer, *, include_self: bool = True) -> list[keras.Layer]:
    """The layers of a model, those inside nested models and wrappers too, in their order."""
    return list(model._flatten_layers(include_self=include_self))


def add_weights(layer: keras.Layer, add: Callable[[], None]) -> None:
    """Calls add() while a layer that is built may get further weights, as for LoRA in Keras."""
    layer._tracker.unlock()
    add()
    layer._tracker.lock()


def stored_variable(layer: keras.Layer, name: str) -> keras.Variable:
    """The variable of a kernel: Dense and Conv keep it as _kernel, behind a property."""
    return layer.__dict__.get(f"_{name}", layer.__dict__.get(name))


def slot_index(optimizer: keras.Optimizer, variable: keras.Variable) -> int:
    """The place of a variable's slot in the lists that add_optimizer_variables gives."""
    return optimizer._get_variable_index(variable)


def nodes(network: keras.Model) -> list:
    """The calls of layers in a functional model, in the order of their execution.

    Raises:
        InputError: the network is not functional.
    """
    if not isinstance(network, keras.Model) or not hasattr(network, "_nodes_by_depth"):
        raise InputError(
            f"--align=permutation knows functional models; {network.name} is a "
            f"{type(network).__name__}. Use --align=none."
        )
    depths = network._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def calls(layer: keras.Layer) -> int:
    """How often a layer is called in functional models."""
    return len(layer._inbound_nodes)


def functional(model: keras.Layer) -> keras.Model | None:
    """The graph that a model runs: itself, or what a built Sequential made; None if it has none.

    A subclass that computes otherwise in `call` has none.
    """
    if type(model) is keras.Sequential:
        return model._functional
    plain = getattr(type(model).call, "__qualname__", "") == "Functional.call"
    return model if plain and hasattr(model, "_nodes_by_depth") else None


def structures(network: keras.Model) -> tuple[Any, Any]:
    """The inputs and outputs of a functional model as they are nested."""
    return network._inputs_struct, network._outputs_struct


def rename(tensor: keras.KerasTensor, name: str) -> None:
    """Names the operation that gives a tensor: those of keras.ops take no name."""
    tensor._keras_history.operation.name = name


def projections(attention: keras.Layer) -> dict[str, keras.Layer]:
    """{name: layer} of the dense layers inside a MultiHeadAttention or GroupQueryAttention."""
    names = ("query", "key", "value", "gate", "output")
    found = {name: getattr(attention, f"_{name}_dense", None) for name in names}
    return {name: layer for name, layer in found.items() if layer is not None}
