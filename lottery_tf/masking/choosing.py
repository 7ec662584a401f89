"""Find the kernels that names, patterns, classes and functions of layers choose."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.layers import Masked, masked_class
from lottery_tf.pruning.allocation import is_named

Choice = str | type | Callable[[keras.Layer], bool] | Iterable[Any]  # or a list of these
SHOWN = 20  # names in an error


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A kernel that has a mask, or can get one."""

    layer: keras.Layer
    name: str  # of the attribute that holds it
    variable: keras.Variable
    # The layers that hold it, from the outermost on, its own last; several if a layer is shared.
    holders: tuple[tuple[keras.Layer, ...], ...]

    @property
    def paths(self) -> list[str]:
        """Its path, and those by the names of the layers that hold it."""
        held = ["/".join(layer.name for layer in chain) for chain in self.holders]
        return [self.variable.path, *(f"{path}/{self.variable.name}" for path in held)]

    @property
    def around(self) -> list[keras.Layer]:
        """Its layer and the layers that hold it."""
        return [layer for chain in self.holders for layer in chain]


def candidates(model: keras.Layer) -> list[Candidate]:
    """Return the kernels of a built model that can have masks, in the order of `kernels`."""
    holders: dict[int, list[tuple[keras.Layer, ...]]] = {}

    def visit(layer: keras.Layer, above: tuple[keras.Layer, ...]) -> None:
        for inner in keras_private.inner_layers(layer):
            holders.setdefault(id(inner), []).append((*above, inner))
            visit(inner, (*above, inner))

    visit(model, ())
    found = []
    for layer in keras_private.layers_of_runs(model):  # their order is kept in saved models
        kind = type(layer) if isinstance(layer, Masked) else masked_class(layer)
        for name in kind.kernel_names if kind and layer.built else ():
            variable = keras_private.stored_variable(layer, name)
            if variable is not None:
                chains = holders.get(id(layer), [(layer,)])
                found.append(Candidate(layer, name, variable, tuple(chains)))
    return found


def chosen(choice: Any, among: list[Candidate], *, of: str) -> list[Candidate]:
    """Return those of some candidates that a choice names.

    A choice is the name of a layer or a nested model, a pattern of its path or a kernel's, a class,
    a function of a layer that says whether it is chosen, a layer, or a list of these.

    Raises:
        InputError: it is of another type, or a name or class that chooses none.
    """
    found: set[Candidate] = set()
    for one in _flat(choice):
        hits = set(filter(_test(one, of), among))
        if not hits and isinstance(one, str | type | keras.Layer):
            raise InputError(_unknown(one, among, of))
        found |= hits
    return [candidate for candidate in among if candidate in found]


def shortened(names: Iterable[str]) -> str:
    """Join some names for an error, each once and not too many."""
    names = list(dict.fromkeys(names))
    rest = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"


def _flat(choice: Any) -> Iterator[Any]:
    if isinstance(choice, list | tuple | set | frozenset):
        for one in choice:
            yield from _flat(one)
    else:
        yield choice


def _test(one: Any, of: str) -> Callable[[Candidate], bool]:
    """Return the function that says whether a single choice chooses a candidate."""
    if isinstance(one, str):
        return lambda candidate: any(is_named(one, path) for path in candidate.paths)
    if isinstance(one, type):
        return lambda candidate: any(isinstance(layer, one) for layer in candidate.around)
    if isinstance(one, keras.Layer):
        return lambda candidate: any(layer is one for layer in candidate.around)
    if callable(one):
        return lambda candidate: any(one(layer) for layer in candidate.around)
    raise InputError(
        f"{of}: expected the name of a layer, a pattern, a layer class, a function of a layer, or "
        f"a list of these. Received: {one!r:.80}"
    )


def _unknown(one: Any, among: list[Candidate], of: str) -> str:
    if isinstance(one, str):
        paths = [path for candidate in among for path in candidate.paths]
        parts = dict.fromkeys(part for path in paths for part in path.split("/"))
        near = difflib.get_close_matches(one, list(parts), 5)
        name, known = one, near or [candidate.variable.path for candidate in among]
    else:
        name = f"of {one.__name__ if isinstance(one, type) else one.name}"
        known = [type(layer).__name__ for candidate in among for layer in candidate.around]
    choices = f"Choose from: {shortened(known)}."
    return f"{of}: There is no layer {name} whose kernels can be pruned. {choices}"
