"""Writes a TensorFlow SavedModel that stores pruned weights sparsely, and decodes them at load.

TensorFlow alone serves it, because its graph decodes the weights. They lie in an asset,
`weights.bin`; each array is a captured resource whose initializer reads its part of that file.
"""

import functools
import hashlib
import pathlib
import tempfile
from collections.abc import Callable

import keras
import tensorflow as tf

from lottery_tf.datasets import augmentation
from lottery_tf.export import coding, reproducible, signatures
from lottery_tf.export.formats import Options
from lottery_tf.export.runner import Call
from lottery_tf.export.sparse_products import SparseDense
from lottery_tf.masking import keras_private

Value = Callable[[], tf.Tensor]  # returns the value of a variable
WEIGHTS = "weights.bin"
# Smaller arrays are constants of the graph, with which the loader computes as far as it can.
CONSTANT = 1024


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write a SavedModel with the signature `serving_default`.

    A run's network takes `images` and gives `logits` and `probabilities`; any other model has the
    names of its inputs and outputs. `dense` stores every weight, as Keras does.
    """
    with tempfile.TemporaryDirectory() as aside:
        module = _served(model, pathlib.Path(aside), options)
        slim = tf.saved_model.SaveOptions(experimental_debug_stripper=True)
        tf.saved_model.save(module, str(directory), {"serving_default": module.serve}, slim)
    reproducible.saved_model(directory)


def load(directory: str) -> Call:
    """Return the signature. It runs where this package cannot be imported."""
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    serve = loaded.signatures["serving_default"]

    # The function does not keep what it reads: `loaded` does.
    def call(inputs: dict, loaded: object = loaded) -> dict:
        given = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: tensor.numpy() for name, tensor in serve(**given).items()}

    return call


def _served(model: keras.Model, aside: pathlib.Path, options: Options) -> tf.Module:
    """Return the tf.Module to save; its assets are written into a directory."""
    module = tf.Module()
    for name, text in options.assets.items():
        (aside / name).write_text(text)
    module.resources = []
    if options.dense:
        module.variables_of_model = model.variables
        values: list[Value] = [functools.partial(getattr, one, "value") for one in model.variables]
    else:
        values, module.resources = _stored(model, aside / WEIGHTS)
    module.files = {path.name: tf.saved_model.Asset(str(path)) for path in aside.iterdir()}
    for resource in module.resources:
        resource.begin(module.files[WEIGHTS])
    # A user's layers that look words up hold tables, which have assets of their own.
    layers = keras_private.flatten_layers(model)
    module.tables = [layer.lookup_table for layer in layers if hasattr(layer, "lookup_table")]
    module.serve = _signature(model, values, options)
    return module


def _stored(model: keras.Model, path: pathlib.Path) -> tuple[list[Value], list["Resource"]]:
    """Write the asset; return the function that gives each variable's value, and the resources."""
    layers = keras_private.flatten_layers(model)
    sparse = {id(layer.indices): layer for layer in layers if isinstance(layer, SparseDense)}
    values: list[Value] = []
    resources, blob = [], b""
    for variable in model.variables:
        array, layer = variable.numpy(), sparse.get(id(variable))
        if array.size < CONSTANT and not layer:
            values.append(functools.partial(tf.constant, array))
            continue
        coded = coding.encode_sparse(layer.mask()) if layer else coding.encode(array)
        resources.append(Resource(coded, len(blob), array.shape))
        values.append(resources[-1].value)
        blob += b"".join(coded.parts)
    path.write_bytes(blob)
    for index, resource in enumerate(resources):
        # Resources of one name are one in a process: the content is part of the name.
        resource.name = f"{hashlib.sha256(blob).hexdigest()}/{index}"
    return values, resources


class Resource(tf.saved_model.experimental.TrackableResource):
    """An array that the loader of the SavedModel decodes once.

    Its parts begin at `offset` bytes in the asset. If its shape is not that of the coded array, it
    holds the int64 (row, column) of each nonzero element of the coded array.
    """

    def __init__(self, coded: coding.Coded, offset: int, shape: tuple[int, ...]):
        super().__init__()
        self.name, self.shape = "", shape
        self.places, self.stored, self.stored_shape = coded.places, coded.dtype, coded.shape
        self.indices = shape != coded.shape
        self.dtype = tf.int64 if self.indices else tf.as_dtype(coded.dtype)
        self.sizes = [len(part) for part in coded.parts]
        self.offsets = [offset + sum(self.sizes[:index]) for index in range(len(self.sizes))]

    def begin(self, asset: tf.saved_model.Asset) -> None:
        """Make the array in this process, from its asset: saving needs that."""
        self.asset = asset
        self._initialize()

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=self.dtype, shape=self.shape, shared_name=self.name)

    def _initialize(self) -> None:
        blob = tf.io.read_file(self.asset.asset_path)
        parts = tf.strings.substr(blob, self.offsets, self.sizes)
        value = _decoder(self.places, self.stored, self.indices)(parts, self.stored_shape)
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=value)

    def value(self) -> tf.Tensor:
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=self.dtype)
        return tf.ensure_shape(value, self.shape)


@functools.cache
def _decoder(places: str, dtype: str, indices: bool) -> Callable:
    """Return one function for all resources of a kind, so that its graph is stored once."""

    def decode(parts: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        if indices:
            where = coding.decode_places(places, parts[1])
            return tf.stack([where // shape[1], where % shape[1]], 1)
        return coding.decode(places, dtype, parts, shape)

    signature = [tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int64)]
    return tf.function(decode, input_signature=signature, autograph=False)


def _signature(model: keras.Model, values: list[Value], options: Options) -> Callable:
    """Return the tf.function that serves a model with these values of its variables."""
    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in zip(signatures.input_names(model), model.inputs, strict=True)
    }
    if options.crop_to:
        (name, spec), *_ = specs.items()
        specs[name] = tf.TensorSpec((None, None, None, spec.shape[-1]), spec.dtype, name)

    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        # A loaded signature does not compare shapes, and the layers may take another one.
        inputs = {name: tf.ensure_shape(inputs[name], spec.shape) for name, spec in specs.items()}
        if options.crop_to:
            (images,) = inputs.values()
            # All images of a batch have one size.
            inputs = {name: augmentation.centre_crop(images, options.crop_to, images.shape[-1])}
        read = {id(v): value() for v, value in zip(model.variables, values, strict=True)}
        outputs, _ = model.stateless_call(
            [read[id(v)] for v in model.trainable_variables],
            [read[id(v)] for v in model.non_trainable_variables],
            signatures.packed(model, inputs),
            training=False,
        )
        return signatures.outputs(model, outputs, of_run=options.images)

    # As Keras exports: AutoGraph would take seconds to rewrite functions that need it nowhere.
    return tf.function(serve, autograph=False).get_concrete_function(**specs)
