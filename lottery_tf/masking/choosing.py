"""Which kernels of a model are meant by names, patterns, classes and predicates of layers."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.masking.layers import masked_class
from lottery_tf.masking.masks import Masked
from lottery_tf.pruning.allocation import is_named

Choice = str | type | Callable[[keras.Layer], bool] | Iterable[Any]  # or a list of these
SHOWN = 20  # names in an error


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A kernel that has a mask, or can get one.

    Args:
        layer: whose kernel it is.
        name: of its attribute.
        variable: its Keras variable.
        holders: the layers that hold it, from the outermost on, the layer itself last; several
            where layers are shared.
    """

    layer: keras.Layer
    name: str
    variable: keras.Variable
    holders: tuple[tuple[keras.Layer, ...], ...]

    @property
    def paths(self) -> list[str]:
        """Its path, and those by the names of all that hold it."""
        held = ["/".join(layer.name for layer in chain) for chain in self.holders]
        return [self.variable.path, *(f"{path}/{self.variable.name}" for path in held)]

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from the others."""
        return id(self.layer), self.name

    @property
    def has_mask(self) -> bool:
        """Whether a mask lies beside it."""
        return isinstance(self.layer, Masked) and self.name not in self.layer.left_dense

    @property
    def around(self) -> list[keras.Layer]:
        """Its layer and all that hold it."""
        return [layer for chain in self.holders for layer in chain]


def candidates(model: keras.Layer) -> list[Candidate]:
    """The kernels of a built model that masks can lie beside, in the order of `kernels`."""
    holders: dict[int, list[tuple[keras.Layer, ...]]] = {}
    for chain in _chains(model, ()):
        holders.setdefault(id(chain[-1]), []).append(chain)
    found = []
    for layer in keras_private.layers_of_runs(model):  # their order is kept in saved models
        kind = type(layer) if isinstance(layer, Masked) else masked_class(layer)
        for name in kind.kernel_names if kind and layer.built else ():
            variable = keras_private.stored_variable(layer, name)
            if variable is not None:
                chains = holders.get(id(layer), [(layer,)])
                found.append(Candidate(layer, name, variable, tuple(chains)))
    return found


def _chains(layer, above):
    for inner in keras_private.inner_layers(layer):
        yield (*above, inner)
        yield from _chains(inner, (*above, inner))


def chosen(choice: Any, among: list[Candidate], *, of: str) -> list[Candidate]:
    """Those of some candidates that a choice means.

    Args:
        choice: the name of a layer or a nested model, a pattern of its path or a kernel's, a class,
            a function of a layer that says whether it is meant, a layer, or a list of these.
        among: the candidates.
        of: the argument, for errors.

    Raises:
        InputError: it is of another type, or a name or class that means none.
    """
    meant: set[tuple[int, str]] = set()
    for one in _listed(choice):
        means = _test(one, of)
        hits = {candidate.key for candidate in among if means(candidate)}
        if not hits and isinstance(one, str | type | keras.Layer):
            raise InputError(_unknown(one, among, of))
        meant |= hits
    return [candidate for candidate in among if candidate.key in meant]


def listed(some: Iterable[Candidate]) -> str:
    """The paths of some candidates, for an error."""
    return shortened(candidate.variable.path for candidate in some)


def shortened(names: Iterable[str]) -> str:
    """Join some names for an error, each once and not too many."""
    names = list(dict.fromkeys(names))
    rest = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"


def _listed(choice: Any) -> Iterator[Any]:
    if isinstance(choice, list | tuple | set | frozenset):
        for one in choice:
            yield from _listed(one)
    else:
        yield choice


def _test(one: Any, of: str) -> Callable[[Candidate], bool]:
    """Whether a single choice means a candidate."""
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


def _unknown(one, among, of):
    if isinstance(one, str):
        parts = [
            part for candidate in among for path in candidate.paths for part in path.split("/")
        ]
        names = difflib.get_close_matches(one, list(dict.fromkeys(parts)), 5)
        known = names or [candidate.variable.path for candidate in among]
        said = f"{of}: There is no layer {one} whose kernels can be pruned. "
    else:
        name = one.__name__ if isinstance(one, type) else one.name
        known = [type(layer).__name__ for candidate in among for layer in candidate.around]
        said = f"{of}: There is no layer of {name} whose kernels can be pruned. "
    return f"{said}Those that could be meant: {shortened(known)}."
