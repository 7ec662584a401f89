"""The networks, by name; a network is one file with one function, and one line here.

This module imports no framework: a name can be checked before TensorFlow is loaded.
"""

import contextlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from lottery_tf.errors import InputError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# name: module:function, called with (input_shape, classes) and the flags that it names.
MODELS = {
    "lenet": "lottery_tf.models.lenet:lenet",
    "conv4": "lottery_tf.models.conv4:conv4",
    "resnet20": "lottery_tf.models.resnet:resnet20",
    "resnet32": "lottery_tf.models.resnet:resnet32",
    "resnet44": "lottery_tf.models.resnet:resnet44",
    "resnet56": "lottery_tf.models.resnet:resnet56",
    "resnet110": "lottery_tf.models.resnet:resnet110",
    "resnet18": "lottery_tf.models.resnet:resnet18",
    "resnet34": "lottery_tf.models.resnet:resnet34",
    "resnet50": "lottery_tf.models.resnet:resnet50",
    "resnet101": "lottery_tf.models.resnet:resnet101",
    "vgg16": "lottery_tf.models.vgg:vgg16",
    "vgg19": "lottery_tf.models.vgg:vgg19",
}

# --mixed_precision: Keras's dtype policy; the variables are float32 under each.
POLICIES = {"off": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# name: arguments of keras.initializers.VarianceScaling. Keras's own HeNormal and GlorotNormal
# are truncated at two standard deviations; these are the untruncated ones of the papers.
INITIALIZERS = {
    "kaiming_normal": {"scale": 2.0, "mode": "fan_in", "distribution": "untruncated_normal"},
    "kaiming_uniform": {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"},
    "glorot_normal": {"scale": 1.0, "mode": "fan_avg", "distribution": "untruncated_normal"},
}


class NetworkFlags(Protocol):
    """The flags that choose a network; a Config has them, and those that its function names."""

    @property
    def model(self) -> str: ...
    @property
    def mixed_precision(self) -> str: ...


def find(name: str) -> Callable[..., Any]:
    """Return the function of a --model.

    Raises:
        InputError: there is none.
    """
    try:
        function = pkgutil.resolve_name(MODELS.get(name, name))
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        raise InputError(f"--model={name}: cannot find it: {_in_a_line(error)}.") from error
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        raise InputError(
            f"--model={name}: expected a function, of the input shape and the number of classes. "
            f"Received: {function!r:.80}"
        ) from None
    return function


def parameters(name: str) -> set[str]:
    """Return the flags that the network of a --model depends on: its parameters."""
    return set(inspect.signature(find(name)).parameters)


def _in_a_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".:")


def build(
    config: NetworkFlags,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    seed: int,
    strategy: "tf.distribute.Strategy | None" = None,
    policy: str | None = None,
) -> "keras.Model":
    """Build a new network of --model, its initialization a function of `seed` alone.

    The names of its layers count from the beginning. The random generators, the counters of names
    and the dtype policy of the process stay as they are.

    Args:
        config: the Config; the model's function gets those flags that its signature names.
        input_shape: (height, width, channels) of one image.
        classes: number of classes, the size of the logits.
        seed: a non-negative integer below 2**32.
        strategy: holds the variables; none by default.
        policy: Keras's dtype policy; by default that of config.mixed_precision.

    Returns:
        A built model with masked layers; those of a user's model are made here.

    Raises:
        InputError: there is no such function, or what it returns does not fit the data.
    """
    from lottery_tf.masking import keras_generators

    function, named = find(config.model), parameters(config.model)
    options = {name: getattr(config, name) for name in named if hasattr(config, name)}

    def make() -> "keras.Model":
        with strategy.scope() if strategy else contextlib.nullcontext():
            try:
                network = function(input_shape, classes, **options)
            except InputError:
                raise
            except Exception as error:  # whatever Keras and the user's function raise
                raise _does_not_fit(config.model, input_shape, classes, error) from error
            return _checked(config.model, network, input_shape, classes)

    policy = policy or POLICIES[config.mixed_precision]
    return keras_generators.from_seed(seed, make, policy=policy, anew=True)


def _does_not_fit(
    name: str, input_shape: tuple[int, ...], classes: int, error: Exception
) -> InputError:
    """Return the InputError of a network that cannot be built for some images and classes."""
    images = " x ".join(map(str, input_shape))
    if name in MODELS:
        nothing_left = "negative" in str(error)  # so Keras calls a layer's output
        why = "its layers leave nothing of them" if nothing_left else _in_a_line(error)
        return InputError(
            f"--model={name} does not fit images of {images} and {classes} classes: {why}. Use "
            "larger images, or another network."
        )
    frames = traceback.extract_tb(error.__traceback__)
    of_user = [frame for frame in frames if "site-packages" not in frame.filename]
    where = f"{of_user[-1].filename}, line {of_user[-1].lineno}"
    return InputError(
        f"--model={name} fails when called with the input shape {input_shape} and {classes} "
        f"classes: {type(error).__name__}: {_in_a_line(error)} ({where})."
    )


def _checked(
    name: str, network: object, input_shape: tuple[int, ...], classes: int
) -> "keras.Model":
    """Return the network with masked layers; InputError if it is none from images to logits."""
    import keras

    from lottery_tf import masking

    if not isinstance(network, keras.Model):
        raise InputError(f"--model={name}: expected a keras.Model. Received: {network!r}")
    if not network.built:
        raise InputError(f"--model={name}: the model is not built; begin it with a keras.Input.")
    for what, found, expected in (
        # A subclassed model may have neither, and then the attribute raises.
        ("input", getattr(network, "input_shape", None), (None, *input_shape)),
        ("output", getattr(network, "output_shape", None), (None, classes)),
    ):
        if found != expected:
            raise InputError(
                f"--model={name}: expected the {what} shape {expected}, as the dataset has "
                f"{input_shape} images of {classes} classes. Received: {found}"
            )
    if getattr(network.layers[-1], "activation", None) is keras.activations.softmax:
        raise InputError(
            f"--model={name}: expected logits, but the last layer has a softmax. Give it no "
            "activation (keras.applications: classifier_activation=None)."
        )
    layers = masking.keras_private.flatten_layers(network)
    has_masks = any(isinstance(layer, masking.Masked) for layer in layers)
    return network if has_masks else masking.masked(network)
