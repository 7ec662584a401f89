"""Check whether masks hold in a layer of your own, in a test of yours: `check_masked_layer`."""

import contextlib
import copy
import dataclasses
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators, keras_private, optimizer_state
from lottery_tf.pruning import Array
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.structure import BLOCKS, N_OF_M, Pattern, Structure
from lottery_tf.structure import layouts

__all__ = ["OPTIMIZERS", "check_masked_layer"]

MakeOptimizer = Callable[[], keras.optimizers.Optimizer]
# What could revive pruned weights: momenta, decay of weights, averages of weights.
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "momentum": lambda: keras.optimizers.SGD(0.01, 0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0),
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
}
STRUCTURES = (N_OF_M, BLOCKS)
OPTIONAL = {(keras.layers.ReversibleEmbedding, "reverse_embeddings")}  # where weights are not tied
POLICIES = ("mixed_float16", "mixed_bfloat16")
EXAMPLES = 4
STORED = 7.0  # in the place of pruned weights: it shows where it acts


def check_masked_layer(
    layer_class: type,
    init_kwargs: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    input_data: Any = None,
    kernels: Iterable[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    optimizers: Mapping[str, MakeOptimizer] = OPTIMIZERS,
    policies: Iterable[str] = POLICIES,
) -> None:
    """Check all that the masks of a layer promise, as Keras's `run_layer_test` checks a layer.

    A model of this layer alone is masked. Its outputs, gradients and updates are compared with
    those of the plain layer; it is pruned in N:M patterns and in blocks; it is saved, loaded,
    cloned and copied, and made plain again.

    Args:
        layer_class: a layer that `lottery_tf.masked` masks, or that holds such layers.
        init_kwargs: its arguments.
        input_shape: of an input, without examples: standard normal numbers are drawn.
        input_data: an array (examples, …), a list of them, or a dict {argument of the call: array}.
        kernels: the names of the variables that have masks; by default they are not compared.
        custom_objects: classes that are not registered, as Keras is given them to load files.
        optimizers: {name: a function that makes one}.
        policies: of mixed precision.

    Raises:
        AssertionError: a check fails. The message names the check, and says what to do.
        InputError: the arguments do not fit.
    """
    if (input_shape is None) == (input_data is None):
        raise InputError(
            "check_masked_layer: expected either input_shape or input_data. Received: "
            f"{'neither' if input_data is None else 'both'}"
        )
    if input_shape is not None:
        shape = (EXAMPLES, *input_shape)
        input_data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    case = Case(layer_class, dict(init_kwargs or {}), input_data)
    with keras.saving.custom_object_scope(dict(custom_objects or {})), keras_generators.kept():
        _check_in_float32(case, None if kernels is None else sorted(kernels))
        for name, make in optimizers.items():
            check_optimizer(case, name, make)
        advice = "Let call cast what it adds to self.compute_dtype."
        for name in policies:
            with keras_generators.kept(), case.checking(name, advice):
                keras.config.set_dtype_policy(name)
                case.check_same_as_plain(part=1e-3)
                model = case.pruned()
                model.compile(keras.optimizers.SGD(0.01, 0.9), "mse", run_eagerly=True)
                case.train(model, steps=1)
                check_zero(model)


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to check: makes models of it alone, plain and masked, always with the same weights.

    Its fields are the first arguments of `check_masked_layer`.
    """

    layer_class: type
    options: dict[str, Any]
    data: Any

    def model_of(self, layer: keras.Layer) -> keras.Model:
        """Return a model of a layer alone; several outputs become one."""

        def tensor(array: Any, name: str | None = None) -> Any:
            return keras.Input(np.shape(array)[1:], dtype=np.asarray(array).dtype.name, name=name)

        if isinstance(self.data, dict):
            inputs = {name: tensor(array, name) for name, array in self.data.items()}
            outputs = keras.tree.flatten(layer(**inputs))
        else:
            inputs = keras.tree.map_structure(tensor, self.data)
            outputs = keras.tree.flatten(layer(inputs))
        if len(outputs) > 1:
            outputs = [keras.layers.Concatenate()(list(map(keras.layers.Flatten(), outputs)))]
        return keras.Model(inputs, outputs[0])

    def plain(self) -> keras.Model:
        def make() -> keras.Model:
            return self.model_of(self.layer_class(**self.options))

        return keras_generators.from_seed(0, make)

    def masked(self) -> keras.Model:
        """Return a masked model that nothing is pruned of; its kernels are normal numbers."""
        model, generator = _masked(self.plain()), np.random.default_rng(0)
        for kernel in masking.kernels(model).values():
            kernel.variable.assign(generator.normal(0, 0.5, kernel.variable.shape))
        return model

    def pruned(self) -> keras.Model:
        """Return a masked model that half of each kernel is pruned of."""
        model = self.masked()
        prune_half(model)
        return model

    def outputs(self, model: keras.Model) -> Array:
        """Return the outputs for the data, at inference, in float32."""
        return np.asarray(keras.ops.convert_to_numpy(model(self.data, training=False)), np.float32)

    def train(self, model: keras.Model, steps: int = 2) -> None:
        """Train a compiled model on random targets."""
        shape = self.outputs(model).shape
        targets = np.float32(np.random.default_rng(1).normal(size=shape))
        for _ in range(steps):
            model.train_on_batch(self.data, targets)

    @contextlib.contextmanager
    def checking(self, name: str, advice: str) -> Iterator[None]:
        """While it is open, errors name the check and say what to do."""
        try:
            yield
        except Exception as error:  # whatever Keras and the layer raise
            raise AssertionError(
                f"{self.layer_class.__name__}, {name}: {error} {advice}"
            ) from error

    def check_close(
        self, model: keras.Model, expected: Array, fault: str, part: float = 1e-5
    ) -> None:
        """Compare outputs within a part of the largest: sums in another order round otherwise."""
        allowed = part * float(np.abs(expected).max(initial=0))
        _check(bool((np.abs(self.outputs(model) - expected) <= allowed).all()), fault)

    def check_same_as_plain(self, part: float = 1e-5) -> None:
        model, plain = self.pruned(), self.plain()
        plain.set_weights(list(masking.get_weights(model).values()))
        fault = "a plain layer with zeros for the pruned weights computes otherwise."
        self.check_close(model, self.outputs(plain), fault, part)

    def check_alike(self, other: keras.Model, model: keras.Model) -> None:
        masks = [list(masking.get_masks(one).values()) for one in (other, model)]
        count, expected = map(len, masks)
        _check(count == expected, f"expected {expected} masks. Received: {count}.")
        _check(all(map(np.array_equal, *masks)), "the masks differ.")
        self.check_close(other, self.outputs(model), "the outputs differ.")


def _check_in_float32(case: Case, expected: list[str] | None) -> None:
    in_call = "Let call compute with self.<kernel> each time, and keep its variable nowhere else."
    in_config = (
        "Let get_config and from_config make the same layer, and register the class with Keras."
    )
    advice = (
        'Name its kernels by @lottery_tf.masking.masked_layer("kernel", …) and make them in build, '
        "or make it of layers that lottery_tf.masked knows."
    )
    with case.checking("masks", advice):
        plain = case.plain()
        for name in getattr(masking.MASKED.get(case.layer_class), "kernel_names", ()):
            (layer,) = (layer for layer in plain.layers if type(layer) is case.layer_class)
            variable = keras_private.stored_variable(layer, name)
            if (case.layer_class, name) in OPTIONAL and variable is None:
                continue
            _check(isinstance(variable, keras.Variable), f"self.{name} is {variable!r}.")
        model = _masked(plain)
        kernels = masking.kernels(model).values()
        names = sorted(kernel.variable.name for kernel in kernels)
        _check(expected in (None, names), f"expected on {expected}. Received: {names}.")
        for kernel in kernels:
            shapes = tuple(kernel.mask.shape), tuple(kernel.variable.shape)
            _check(shapes[0] == shapes[1], f"expected shape {shapes[1]}. Received: {shapes[0]}.")
            _check(np.all(kernel.mask.numpy()), f"that of {kernel.variable.path} prunes already.")
    with case.checking("outputs", in_call):
        plain = case.plain()
        fault = "masks that keep everything change the outputs."
        case.check_close(_masked(plain), case.outputs(plain), fault)

    with case.checking("pruned weights", in_call):
        case.check_same_as_plain()
        model = case.pruned()
        outputs = case.outputs(model)
        for path, kernel in masking.kernels(model).items():
            _store(kernel, STORED)
            case.check_close(model, outputs, f"what is stored for pruned weights of {path} acts.")
            _store(kernel, 0)
    with case.checking("gradients", in_call):
        model = case.pruned()
        for kernel in masking.kernels(model).values():
            _store(kernel, STORED)
            # Both would move it for a reason of their own.
            kernel.variable.constraint = kernel.variable.regularizer = None
        before = masking.get_weights(model)
        model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
        case.train(model, steps=1)
        after = masking.get_weights(model)
        for path, kept in masking.get_masks(model).items():
            moved = after[path] != before[path]
            _check(not moved[~kept].any(), f"that of pruned weights of {path} is not zero.")
            _check(moved[kept].any(), f"{path} has none.")

    for kind in STRUCTURES:
        with case.checking(f"structure {kind}", in_call):
            model = case.masked()
            prune_structured(model, kind)
            outputs = case.outputs(model)
            case.check_close(masking.unmasked(model), outputs, "an unmasked copy differs.")
            model.compile(keras.optimizers.SGD(0.01, 0.9), "mse", run_eagerly=True)
            case.train(model)
            check_zero(model)

    model = case.pruned()
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        with case.checking("saving and loading .keras", in_config):
            model.save(folder / "model.keras")
            case.check_alike(keras.models.load_model(folder / "model.keras"), model)
        advice = "Leave save_own_variables and load_own_variables to Keras, or call super()'s."
        with case.checking("saving and loading .weights.h5", advice):
            model.save_weights(folder / "masked.weights.h5")
            other = case.masked()
            other.load_weights(folder / "masked.weights.h5")
            case.check_alike(other, model)
            plain = case.plain()
            plain.save_weights(folder / "plain.weights.h5")
            other.load_weights(folder / "plain.weights.h5")
            case.check_close(other, case.outputs(plain), "those of the plain layer differ.")

    def from_config(model: keras.Model) -> keras.Model:
        (layer,) = (x for x in model.layers if getattr(x, "plain", None) is case.layer_class)
        return case.model_of(type(layer).from_config(layer.get_config()))

    for name, make in (
        ("clone_model", keras.models.clone_model),
        ("deepcopy", copy.deepcopy),
        ("get_config and from_config", from_config),
    ):
        with case.checking(name, in_config):
            other = make(model)
            other.set_weights(model.get_weights())
            case.check_alike(other, model)
    with case.checking("unmasked", in_config):
        plain = masking.unmasked(model)
        kinds = [type(layer) for layer in keras_private.flatten_layers(plain)]
        left = [kind.__name__ for kind in kinds if hasattr(kind, "plain")]
        _check(not left, f"expected plain layers. Received: {', '.join(left)}.")
        case.check_close(plain, case.outputs(model), "the outputs differ.")
    with case.checking("fit", "Let call work in a compiled function."):
        model.compile(keras.optimizers.SGD(0.01, 0.9), "mse")  # as Keras compiles by default
        case.train(model, steps=1)
        check_zero(model)


def check_optimizer(case: Case, name: str, make: MakeOptimizer) -> None:
    """Check that an optimizer trains the kernels, and that what it puts past the masks is inert."""
    advice = "Leave the constraints of the kernels as they are."
    with case.checking(f"the optimizer {name}", advice):
        model, optimizer = case.masked(), make()
        model.compile(optimizer, "mse", run_eagerly=True)
        case.train(model)  # now its slots could revive what is pruned next
        prune_half(model)
        if keras.backend.backend() != "tensorflow":  # no constraint holds there, but `prune` does
            optimizer_state.forget_pruned(model)
        before = masking.get_weights(model)
        case.train(model)
        after = masking.get_weights(model)
        for path in masking.kernels(model):
            _check((after[path] != before[path]).any(), f"it does not train {path}.")
        if not optimizer.use_ema or not optimizer.ema_overwrite_frequency:
            check_zero(model)
        optimizer.finalize_variable_values(model.trainable_variables)  # as fit does at its end
        outputs = case.outputs(model)
        masking.apply_masks(model)
        case.check_close(model, outputs, "weights that it put past the masks act.")


def prune_half(model: keras.Model) -> None:
    """Prune a random half of each kernel."""
    generator, weights, masks = np.random.default_rng(2), masking.get_weights(model), {}
    for path, kept in masking.get_masks(model).items():
        order = generator.permutation(kept.size).reshape(kept.shape)
        masks[path] = order < (kept.size + 1) // 2
        weights[path] = np.where(masks[path], weights[path], 0)
    masking.set_weights(model, weights, masks)


def prune_structured(model: keras.Model, kind: str) -> None:
    """Prune half of the inputs of every output, or of the blocks, wherever a structure fits."""
    found, masks = layouts(model), masking.get_masks(model)
    weights, pruned = masking.get_weights(model), dict(masks)
    for path, mask in masks.items():
        layout = found[path]
        if isinstance(layout, str):
            continue  # no product sums over it
        inputs = layout.matrices(mask).shape[-1]
        if inputs < 2:
            continue
        pattern = Pattern(kind, inputs // 2 if kind == N_OF_M else 1, inputs)
        structure = Structure(pattern, layouts=found)
        fraction = None if kind == N_OF_M else 0.5
        target = SparsityTarget(fraction, structure=structure)
        part, _ = pruning.prune({path: weights[path]}, {path: mask}, target)
        left = layout.matrices(part[path]).sum(-1)
        exact = left == pattern.n if kind == N_OF_M else np.isin(left, (0, inputs))
        _check(exact.all(), f"the groups of {path} are not exact.")
        _check(part[path].any() and not part[path].all(), f"{path} is not pruned.")
        pruned |= part
    masking.set_weights(model, pruning.apply_masks(weights, pruned), pruned)


def check_zero(model: keras.Model) -> None:
    """Raise RuntimeError if a pruned weight is not exactly zero."""
    for path, kernel in masking.kernels(model).items():
        masking.check_masked(path, kernel.variable.numpy(), kernel.mask.numpy())


def _masked(model: keras.Model) -> keras.Model:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Left dense")
        return masking.masked(model)


def _store(kernel: masking.Kernel, value: float) -> None:
    kept = kernel.mask.numpy()
    kernel.variable.assign(np.where(kept, kernel.variable.numpy(), value))


def _check(holds: Any, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
