"""What `check_masked_layer` checks, one function for each promise of the masks."""

import contextlib
import copy
import pathlib
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.masking import keras_private
from lottery_tf.pruning import Array
from lottery_tf.testing.case import Case, half_pruned, mask

STORED = 7.0  # in the place of pruned weights: it shows where it acts
IN_CALL = "Let call compute with self.<kernel> each time, and keep its variable nowhere else."
IN_CONFIG = "Let get_config and from_config make the same layer, and register the class with Keras."


def check_masks(case: Case, expected: Iterable[str] | None) -> None:
    """The kernels have masks that keep all of them, and others have none."""
    advice = (
        'Name its kernels by @lottery_tf.masking.masked_layer("kernel", …) and make them in build, '
        "or make it of layers that lottery_tf.masked knows."
    )
    with case.during("masks", advice):
        plain = case.plain()
        for name in _kernel_names(case):
            (layer,) = (layer for layer in plain.layers if type(layer) is case.layer_class)
            variable = keras_private.stored_variable(layer, name)
            _same(isinstance(variable, keras.Variable), f"self.{name} is {variable!r}.")
        model = mask(plain)
        kernels = masking.kernels(model).values()
        found = sorted(kernel.variable.name for kernel in kernels)
        if expected is not None:
            _same(found == sorted(expected), f"expected on {sorted(expected)}. Received: {found}.")
        for kernel in kernels:
            shapes = tuple(kernel.mask.shape), tuple(kernel.variable.shape)
            _same(shapes[0] == shapes[1], f"expected shape {shapes[1]}. Received: {shapes[0]}.")
            _same(np.all(kernel.mask.numpy()), f"that of {kernel.variable.path} prunes already.")


def check_outputs(case: Case) -> None:
    """Under masks that keep everything, the outputs are those of the plain layer."""
    with case.during("outputs", IN_CALL):
        plain = case.plain()
        _close(case.outputs(mask(plain)), case.outputs(plain), "masked and plain ones differ.")


def check_pruned(case: Case) -> None:
    """What is stored in the place of a pruned weight does not act on the outputs."""
    with case.during("pruned weights", IN_CALL):
        model, plain = case.pruned(), case.plain()
        expected = case.outputs(model)
        plain.set_weights(list(masking.get_weights(model).values()))
        _close(expected, case.outputs(plain), "a plain layer with zeros there computes otherwise.")
        for path, kernel in masking.kernels(model).items():
            _store(kernel, STORED)
            _close(case.outputs(model), expected, f"what is stored of {path} acts.")
            _store(kernel, 0)


def check_gradients(case: Case) -> None:
    """The gradient is zero where weights are pruned, and not everywhere."""
    with case.during("gradients", IN_CALL):
        model = case.pruned()
        kernels = masking.kernels(model)
        for kernel in kernels.values():
            _store(kernel, STORED)
            # Both would move it for a reason of their own.
            kernel.variable.constraint = kernel.variable.regularizer = None
        before = masking.get_weights(model)
        _compile(model, keras.optimizers.SGD(1.0))
        case.train(model, steps=1)
        after = masking.get_weights(model)
        for path, kept in masking.get_masks(model).items():
            moved = after[path] != before[path]
            _same(not moved[~kept].any(), f"that of pruned weights of {path} is not zero.")
            _same(moved[kept].any(), f"{path} has none.")


def check_files(case: Case) -> None:
    """Saved and loaded, as a model and as weights, it has its masks; plain weights load too."""
    with tempfile.TemporaryDirectory() as directory:
        path, model = pathlib.Path(directory), case.pruned()
        with case.during("saving and loading .keras", IN_CONFIG):
            model.save(path / "model.keras")
            _alike(case, keras.models.load_model(path / "model.keras"), model)
        advice = "Leave save_own_variables and load_own_variables to Keras, or call super()'s."
        with case.during("saving and loading .weights.h5", advice):
            model.save_weights(path / "masked.weights.h5")
            other = case.masked()
            other.load_weights(path / "masked.weights.h5")
            _alike(case, other, model)
            plain = case.plain()
            plain.save_weights(path / "plain.weights.h5")
            other.load_weights(path / "plain.weights.h5")
            _close(case.outputs(other), case.outputs(plain), "those of the plain layer differ.")


def check_copies(case: Case) -> None:
    """`clone_model`, `deepcopy`, and `from_config` of `get_config` give masked layers."""
    model = case.pruned()
    for name, make in (
        ("clone_model", keras.models.clone_model),
        ("deepcopy", copy.deepcopy),
        ("get_config and from_config", lambda model: case.model_of(_rebuilt(case, model))),
    ):
        with case.during(name, IN_CONFIG):
            other = make(model)
            other.set_weights(model.get_weights())
            _alike(case, other, model)


def check_plain(case: Case) -> None:
    """`unmasked` gives plain layers of the same outputs."""
    with case.during("unmasked", IN_CONFIG):
        model = case.pruned()
        plain = masking.unmasked(model)
        kinds = [type(layer) for layer in keras_private.flatten_layers(plain)]
        left = [kind.__name__ for kind in kinds if hasattr(kind, "plain")]
        _same(not left, f"expected plain layers. Received: {', '.join(left)}.")
        _close(case.outputs(plain), case.outputs(model), "the outputs differ.")


def check_fit(case: Case) -> None:
    """Compiled as Keras compiles by default, it trains, and pruned weights stay zero."""
    with case.during("fit", "Let call work in a compiled function."):
        model = case.pruned()
        model.compile(keras.optimizers.SGD(0.01, 0.9), "mean_squared_error")
        case.train(model, steps=1)
        _zero(model)


OF_EVERY_LAYER: tuple[Callable[[Case], None], ...] = (
    check_outputs, check_pruned, check_gradients, check_files, check_copies, check_plain, check_fit
)  # fmt: skip


def check_optimizer(case: Case, name: str, make: Callable[[], Any]) -> None:
    """After updates, pruned weights are zero; averages that were put in their place do not act."""
    with case.during(f"the optimizer {name}", "Leave the constraints of the kernels as they are."):
        model, optimizer = case.masked(), make()
        _compile(model, optimizer)
        case.train(model)  # now its slots could revive what is pruned next
        masking.set_weights(model, **half_pruned(model))
        before = masking.get_weights(model)
        case.train(model)
        after = masking.get_weights(model)
        for path in masking.kernels(model):
            _same((after[path] != before[path]).any(), f"it does not train {path}.")
        if not optimizer.use_ema or not optimizer.ema_overwrite_frequency:
            _zero(model)
        optimizer.finalize_variable_values(model.trainable_variables)  # as fit does at its end
        expected = case.outputs(model)
        masking.apply_masks(model)
        _close(case.outputs(model), expected, "weights that it put past the masks act.")


def check_precision(case: Case, policy: str) -> None:
    """In mixed precision it computes as the plain layer does, and trains."""
    advice = "Let call cast what it adds to self.compute_dtype."
    with case.during(policy, advice), _everywhere(policy):
        model, plain = case.pruned(), case.plain()
        plain.set_weights(list(masking.get_weights(model).values()))
        _close(case.outputs(model), case.outputs(plain), "masked and plain outputs differ.", 1e-3)
        _compile(model, keras.optimizers.SGD(0.01, 0.9))
        case.train(model, steps=1)
        _zero(model)


@contextlib.contextmanager
def _everywhere(policy):
    """Keras's policy for all layers, those inside others too."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _rebuilt(case, model):
    """The layer of a model, made again from its configuration."""
    (layer,) = (x for x in model.layers if getattr(x, "plain", None) is case.layer_class)
    return type(layer).from_config(layer.get_config())


def _kernel_names(case):
    return getattr(masking.MASKED.get(case.layer_class), "kernel_names", ())


def _compile(model, optimizer):
    model.compile(optimizer, "mean_squared_error", run_eagerly=True)


def _store(kernel, value):
    kept = kernel.mask.numpy()
    kernel.variable.assign(np.where(kept, kernel.variable.numpy(), value))


def _zero(model):
    for path, kernel in masking.kernels(model).items():
        masking.check_masked(path, kernel.variable.numpy(), kernel.mask.numpy())


def _alike(case, other, model):
    masks = [list(masking.get_masks(one).values()) for one in (other, model)]
    _same(len(masks[0]) == len(masks[1]), f"expected {len(masks[1])} masks. Got {len(masks[0])}.")
    _same(all(map(np.array_equal, *masks)), "the masks differ.")
    _close(case.outputs(other), case.outputs(model), "the outputs differ.")


def _close(found: Array, expected: Array, words: str, part: float = 1e-5) -> None:
    """Within a part of the largest output: sums in another order round otherwise."""
    largest = float(np.abs(expected).max(initial=0))
    _same(bool((np.abs(found - expected) <= part * largest).all()), words)


def _same(holds: Any, words: str) -> None:
    if not holds:
        raise AssertionError(words)
