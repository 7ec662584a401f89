"""What masks promise on every backend: one process runs it all, on the backend that Keras has.

`python -m tests.backends` prints a row for each check. `exchange` is what two backends compare.
"""

import functools
import pathlib
import tempfile
import time
import traceback
import warnings

import keras
import numpy as np

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.pruning import criteria, resets
from lottery_tf.testing import check_masked_layer, check_zero
from tests.layers import AVERAGES, KINDS, OPTIMIZERS, ROWS, case, optimizer

JAX = keras.backend.backend() == "jax"
USUAL = ("Dense", "Conv2D", "Embedding")
USUAL_OPTIMIZERS = ("Adam", "SGD", "Muon")
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=(48, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(48) % 3
# Those that orthogonalize, and so put numbers where pruned weights are stored.
MIXING = {"Muon"}


def network():
    image = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(4, 3, name="conv")(image)
    features = keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(features))
    features = keras.layers.Flatten()(features)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(features))


def masked(seed=0, compiled=True):
    """Return a masked model whose weights are a function of the seed alone, on every backend."""
    keras.utils.clear_session(free_memory=False)
    model, draw = lottery_tf.masked(network()), np.random.default_rng(seed)
    weights = masking.get_weights(model)
    for path, array in weights.items():
        if path.endswith("kernel"):
            weights[path] = draw.normal(0, 0.3, array.shape).astype(np.float32)
    masking.set_weights(model, weights, masking.get_masks(model))
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return model


def fit(model, epochs=2, **options):
    return model.fit(IMAGES, LABELS, batch_size=16, epochs=epochs, verbose=0, **options)


@keras.saving.register_keras_serializable("tests.backends")
class Own(keras.layers.Layer):
    """A layer with a kernel of its own."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], self.units), name="table")

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.table)

    def get_config(self):
        return super().get_config() | {"units": self.units}


def check_layers(names):
    """Check a layer as `check_masked_layer` does; the first two with every optimizer of it."""
    masking.masked_layer("table")(Own)
    check_masked_layer(Own, {"units": 3}, input_shape=(5,), optimizers={}, policies=())
    del masking.MASKED[Own]
    for number, name in enumerate(names):
        options, data = ROWS[name]
        more = {} if number < 2 else {"optimizers": {}, "policies": ()}
        check_masked_layer(KINDS[name], options, input_data=data, **more)
    return f"{len(names)} layers, and one of the user's"


def check_optimizers(names):
    """Update by hand with any gradients: nothing acts, and only MIXING stores anything."""
    model, moved = case("Dense").masked(), set()
    for name in names:
        for averages in AVERAGES:
            prunes = {path: m.copy() for path, m in masking.get_masks(model).items()}
            for mask in prunes.values():
                mask[...] = True
            masking.set_weights(model, masking.get_weights(model), prunes)
            model.compile(optimizer(name, averages), "mse")
            targets = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
            model.train_on_batch(case("Dense").data, targets)
            lottery_tf.prune(model, 0.5, criterion="random")
            before = masking.get_weights(model)
            for _ in range(2):
                model.train_on_batch(case("Dense").data, targets)
            model.optimizer.finalize_variable_values(model.trainable_variables)
            after, outputs = masking.get_weights(model), case("Dense").outputs(model)
            for path, kept in masking.get_masks(model).items():
                assert (after[path] != before[path])[kept].any(), f"{name} does not train {path}"
                if after[path][~kept].any():
                    moved.add(name)
            lottery_tf.apply_masks(model)
            check_zero(model)
            assert np.array_equal(outputs, case("Dense").outputs(model)), f"{name}: it acts"
    expected = MIXING & set(names) if keras.backend.backend() != "tensorflow" else set()
    assert moved == expected, f"stores pruned weights: {moved}"
    return f"{len(names)} optimizers, each with averages too"


def check_resets():
    """Every reset, under `fit` as it is compiled by default: one compilation for all rounds."""
    for reset in resets.RESETS:
        model, compiled, densities = masked(), set(), []
        options = {"rewind_to": 2} if "rewind" in reset else {}
        for round in lottery_tf.rounds(model, 3, 0.5, reset=reset, verbose=0, **options):
            fit(model, callbacks=round.callbacks)
            check_zero(model)
            compiled.add(id(model.train_function))
            densities.append(pruning.density(masking.get_masks(model)))
        assert len(compiled) == 1, f"{reset}: compiled again"
        assert np.allclose(densities, [1, 0.5, 0.25], atol=0.01), densities
    return ", ".join(resets.RESETS)


def check_current_masks():
    """A step that is compiled under one mask computes with the next."""
    model = masked()
    lottery_tf.prune(model, 0.1)
    fit(model, 1)
    train = model.train_function
    for density in (0.5, 0.1):
        lottery_tf.prune(model, density=density)
        before = masking.get_weights(model)
        fit(model, 1)
        assert model.train_function is train
        check_zero(model)
        after, masks = masking.get_weights(model), masking.get_masks(model)
        assert all((after[path] != before[path])[kept].any() for path, kept in masks.items())
        # What is stored in the place of pruned weights acts neither here nor in `predict`.
        outputs = model.predict(IMAGES, verbose=0)
        for path, kernel in masking.kernels(model).items():
            kernel.variable.assign(np.where(masks[path], after[path], 7))
        assert np.array_equal(model.predict(IMAGES, verbose=0), outputs)
        lottery_tf.apply_masks(model)


def check_mixing():
    """What Muon stores is zero again at the end of each epoch of a round, and after `prune`."""
    model, seen = masked(), []

    class Epochs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            stored = masking.get_weights(self.model)
            masks = masking.get_masks(self.model)
            seen.append(any(stored[path][~kept].any() for path, kept in masks.items()))

    if not hasattr(keras.optimizers, "Muon"):
        return "no Muon"
    model.compile(keras.optimizers.Muon(0.01), model.loss)
    for round in lottery_tf.rounds(model, 2, 0.5, verbose=0):
        fit(model, callbacks=[*round.callbacks, Epochs()])
    assert seen
    assert not any(seen)
    fit(model)  # without the callbacks
    stored, masks = masking.get_weights(model), masking.get_masks(model)
    revived = any(stored[path][~kept].any() for path, kept in masks.items())
    lottery_tf.prune(model, 0.1)
    check_zero(model)
    return "stored outside of rounds, inert" if revived else "nothing stored"


def check_user_constraint():
    inputs = keras.Input((8,))
    layer = keras.layers.Dense(4, kernel_constraint="non_neg", name="dense")
    model = lottery_tf.masked(keras.Model(inputs, layer(inputs)))
    lottery_tf.prune(model, 0.5)
    model.compile(keras.optimizers.SGD(0.5, 0.9), "mse")
    data = np.random.default_rng(0).normal(size=(2, 16, 8)).astype(np.float32)
    model.fit(data[0], data[1][:, :4], verbose=0)
    (path,) = masking.get_masks(model)
    assert masking.get_weights(model)[path].min() >= 0
    check_zero(model)
    plain = lottery_tf.unmasked(model)
    assert type(plain.get_layer("dense").kernel.constraint) is keras.constraints.NonNeg


class Tied(keras.layers.Layer):
    """Multiplies by the transposed kernel of another layer, whose variable it holds itself."""

    def __init__(self, layer):
        super().__init__(name="tied")
        self.kernel = layer.kernel

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.kernel))


class SAM3GeometryEncoder(keras.layers.Layer):
    """As that of keras_hub, it adds the row that an Embedding stores."""

    def __init__(self):
        super().__init__(name="encoder")
        self.cls_embed = keras.layers.Embedding(1, 6, name="cls_embed")

    def build(self, shape):
        self.cls_embed.build([None, 1])

    def call(self, inputs):
        return inputs + self.cls_embed._embeddings


def check_readers():
    """What reads a stored kernel reads it under its mask; what cannot is refused, or harmless."""
    data = np.random.default_rng(0).normal(size=(2, 16, 8)).astype(np.float32)
    inputs, every = keras.Input((8,)), []
    for regularizer in (None, "l1", keras.regularizers.OrthogonalRegularizer(0.5)):
        own = {"kernel_regularizer": regularizer}
        inner = keras.layers.Dense(6, **own, name="inner")
        normal = keras.layers.SpectralNormalization(inner, power_iterations=2)
        last = keras.layers.Dense(8, **own, name="last")
        model = lottery_tf.masked(keras.Model(inputs, last(normal(inputs))))
        lottery_tf.prune(model, 0.5, scope="layer")
        model.compile(keras.optimizers.Adam(0.05), "mse")
        model.fit(*data, batch_size=4, epochs=3, verbose=0)
        check_zero(model)
        weights = model.get_weights()
        outputs = keras.ops.convert_to_numpy(model(data[0], training=True))
        losses = [float(loss) for loss in model.losses]
        model.set_weights(weights)  # the call changed the kernel, and the vector
        for kernel in masking.kernels(model).values():
            kept = kernel.mask.numpy()
            assert not kept.all()
            kernel.variable.assign(np.where(kept, kernel.variable.numpy(), 7))
        with_others = keras.ops.convert_to_numpy(model(data[0], training=True))
        assert np.allclose(with_others, outputs, rtol=1e-5, atol=1e-6), "what is stored acts"
        if keras.backend.backend() != "tensorflow":
            assert np.allclose([float(loss) for loss in model.losses], losses, rtol=1e-5)
        plain = lottery_tf.unmasked(model).get_layer("last").kernel.regularizer
        assert type(plain) is type(keras.regularizers.get(regularizer))
        every += losses
    assert len(every) == 4

    for make, name in ((Tied, "dense"), (lambda _: SAM3GeometryEncoder(), "cls_embed")):
        dense = keras.layers.Dense(6, name="dense")
        hidden = dense(inputs)
        hidden = make(dense)(hidden)
        model = keras.Model(inputs, keras.layers.Dense(8, name="head")(hidden))
        if keras.backend.backend() != "tensorflow":
            message = "nothing was refused"
            try:
                lottery_tf.mask(model)
            except InputError as error:
                message = str(error)
            assert f"computes with what {name} stores" in message, message
            assert f"exclude='{name}'" in message, message
            assert type(dense) is keras.layers.Dense
            lottery_tf.mask(model, exclude=name)
        else:
            lottery_tf.mask(model)
        lottery_tf.prune(model, 0.5, scope="layer")
        model.compile(keras.optimizers.Adam(0.05), "mse")
        model.fit(*data, batch_size=4, epochs=3, verbose=0)
        check_zero(model)
    others = "hold" if keras.backend.backend() == "tensorflow" else "are refused"
    return f"SpectralNormalization, regularizers; others {others}"


def check_in_place(folder):
    """`mask`, `summary`, `unmask`, and files of both kinds."""
    model = lottery_tf.mask(network())
    lottery_tf.prune(model, 0.5)
    outputs = model.predict(IMAGES, verbose=0)
    total = lottery_tf.summary(model, show=False)[-1]
    assert abs(total["density"] - 0.5) < 0.01
    model.save(folder / "own.keras")
    loaded = keras.models.load_model(folder / "own.keras")
    assert np.array_equal(loaded.predict(IMAGES, verbose=0), outputs)
    model.save_weights(folder / "own.weights.h5")
    other = lottery_tf.masked(network())
    other.load_weights(folder / "own.weights.h5")
    masks = [masking.get_masks(one).values() for one in (model, loaded, other)]
    assert all(all(map(np.array_equal, masks[0], others)) for others in masks[1:])
    assert np.array_equal(other.predict(IMAGES, verbose=0), outputs)
    assert np.allclose(lottery_tf.unmasked(model).predict(IMAGES, verbose=0), outputs, atol=1e-6)
    assert np.allclose(lottery_tf.unmask(model).predict(IMAGES, verbose=0), outputs, atol=1e-6)


def check_directory(folder):
    """Rounds in a run directory go on in another call, and read back."""
    for count in (2, 3):
        model = masked()
        rounds = lottery_tf.rounds(model, count, 0.5, verbose=0, directory=folder / "run")
        for round in rounds:
            fit(model, callbacks=round.callbacks)
    assert [row["round"] for row in round.history] == [0, 1, 2]


class Watch(keras.callbacks.Callback):
    """Notes the masks after each update; pruned weights and their slots are zero."""

    def __init__(self):
        super().__init__()
        self.masks = {}

    def on_train_batch_end(self, batch, logs=None):
        check_zero(self.model)
        masks = masking.get_masks(self.model)
        for path, mask in masks.items():
            slots = [one for one in self.model.optimizer.variables if one.shape == mask.shape]
            slots = [one for one in slots if path.replace("/", "_") in one.name]
            assert len(slots) == 2, slots  # of Adam
            assert not any(keras.ops.convert_to_numpy(one)[~mask].any() for one in slots)
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        assert logs["density"] == pruning.density(masks)
        self.masks[step] = masks


def check_gradual():
    """`GradualPruning`: exact counts at its steps, in a fit of six updates."""
    options = {"begin_step": 1, "end_step": 5, "frequency": 2}
    for own in (False, True):
        model, watch = masked(), Watch()
        more = options | ({"optimizer": model.optimizer} if own else {})
        callbacks = [lottery_tf.GradualPruning(0.2, **more), watch]
        history = fit(model, callbacks=callbacks).history
        left = {step: pruning.remaining(masks) for step, masks in watch.masks.items()}
        size = 3 * 3 * 4 + 6 * 6 * 4 * 3
        half = round((1 - 0.8 * (1 - 0.5**3)) * size)  # on the way of a cubic
        last = round(0.2 * size)
        assert left == {1: size, 2: size, 3: half, 4: half, 5: last, 6: last}, left
        assert history["density"] == [half / size, last / size], history["density"]
        check_zero(model)
        train = model.train_function
        fit(model, 1)
        assert model.train_function is train
        assert pruning.remaining(masking.get_masks(model)) == last
        check_zero(model)


def check_sparse_training():
    """`SparseTraining`: each layer keeps its count, masks change at their steps alone."""
    for regrow, data in (("gradient", (IMAGES, LABELS)), ("random", None)):
        model, watch = masked(), Watch()
        options = {"update_every": 2, "update_until": 6, "data": data}
        callbacks = [lottery_tf.SparseTraining(0.3, regrow=regrow, **options), watch]
        history = fit(model, callbacks=callbacks).history
        found, size = watch.masks, 3 * 3 * 4 + 6 * 6 * 4 * 3
        counts = {tuple(int(mask.sum()) for mask in masks.values()) for masks in found.values()}
        assert len(counts) == 1, counts
        assert sum(*counts) == round(0.3 * size)
        changed = [
            step
            for step in range(2, 7)
            if any((found[step][path] != found[step - 1][path]).any() for path in found[step])
        ]
        assert changed == [2, 4], changed
        assert history["density"] == [round(0.3 * size) / size] * 2, history["density"]
        check_zero(model)


def check_lora(folder):
    """LoRA trains; the density stays; saved, loaded and merged it loses no zero."""
    model = masked()
    lottery_tf.prune(model, 0.8)
    masks = masking.get_masks(model)
    for name in ("conv", "logits"):
        model.get_layer(name).enable_lora(2)
    model.compile(keras.optimizers.Adam(0.05), model.loss)
    before = model.predict(IMAGES, verbose=0)
    fit(model)
    outputs = model.predict(IMAGES, verbose=0)
    assert not np.allclose(before, outputs, atol=1e-3)
    assert all(map(np.array_equal, masks.values(), masking.get_masks(model).values()))
    model.save(folder / "lora.keras")
    loaded = keras.models.load_model(folder / "lora.keras")
    model.save_weights(folder / "lora.weights.h5")
    other = lottery_tf.masked(network())
    other.load_weights(folder / "lora.weights.h5")
    for one in (loaded, other, lottery_tf.unmasked(model), lottery_tf.unmask(model)):
        assert np.allclose(one.predict(IMAGES, verbose=0), outputs, atol=1e-5)
        kernels = [one.get_layer(name).kernel for name in ("conv", "logits")]
        for kernel, kept in zip(kernels, masks.values(), strict=True):
            assert not keras.ops.convert_to_numpy(kernel)[~kept].any()


def check_lacking_gradient():
    """An operation without a gradient is named, with what to do."""
    if JAX:

        def count(inputs):
            import jax

            halve = lambda state: (state[0] + 1, state[1] / 2)  # noqa: E731
            return jax.lax.while_loop(lambda s: keras.ops.max(s[1]) > 1, halve, (0, inputs))[1]
    else:

        def count(inputs):
            import torch

            return torch.igamma(abs(inputs) + 1, torch.ones_like(inputs))

    inputs = keras.Input((8,))
    features = keras.layers.Dense(4)(inputs)
    features = keras.layers.Lambda(count, output_shape=(4,))(features)
    model = lottery_tf.mask(keras.Model(inputs, keras.layers.Dense(3)(features)))
    data = np.ones((6, 8), np.float32), np.arange(6) % 3
    message = "nothing was refused"
    try:
        lottery_tf.prune(model, 0.5, criterion="snip", data=data)
    except InputError as error:
        message = str(error)
    assert message.startswith("criterion: "), message
    assert "magnitude" in message, message
    assert f"{keras.backend.backend()} has no gradient" in message, message
    lottery_tf.prune(model, 0.5)


def check_distribution():
    """Keras's DataParallel on two devices: the same masks, the same losses but for rounding."""
    if not JAX:
        return "of JAX alone"
    found = []
    for devices in (None, keras.distribution.list_devices()[:2]):
        if devices:
            assert len(devices) == 2
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        try:
            model, losses = masked(), []
            for round in lottery_tf.rounds(model, 3, 0.5, verbose=0):
                losses += fit(model, shuffle=False, callbacks=round.callbacks).history["loss"]
                check_zero(model)
            lottery_tf.prune(model, 0.2, criterion="snip", data=(IMAGES, LABELS))
            found.append((losses, masking.get_masks(model)))
        finally:
            keras.distribution.set_distribution(None)
    (losses, masks), (others, other_masks) = found
    assert np.allclose(losses, others, rtol=1e-4), (losses, others)
    pairs = zip(masks.values(), other_masks.values(), strict=True)
    unequal = sum(int((own != other).sum()) for own, other in pairs)
    assert unequal == 0, f"{unequal} of {sum(a.size for a in masks.values())} differ"


def exchange(folder, *, read=False):
    """Write masks and a file for another backend, or compare with what another one wrote.

    Returns:
        {criterion: elements of the masks that differ}, of a comparison.
    """
    differing = {}
    for criterion in criteria.CRITERIA:
        for compiled in (True, False):
            model, name = masked(seed=1, compiled=compiled), f"{criterion}_{compiled}"
            first = masking.get_weights(masked(seed=2))
            lottery_tf.prune(model, 0.7, criterion=criterion, data=(IMAGES, LABELS), initial=first)
            masks = masking.get_masks(model)
            if not read:
                np.savez(folder / f"{name}.npz", *masks.values())
                continue
            with np.load(folder / f"{name}.npz") as theirs:
                pairs = zip(masks.values(), (theirs[one] for one in theirs), strict=True)
                differing[name] = sum(int((own != other).sum()) for own, other in pairs)
    model = masked(seed=3)
    if read:
        theirs = keras.models.load_model(folder / "of_other.keras")
        lottery_tf.prune(model, 0.5)
        held, expected = masking.get_masks(theirs), masking.get_masks(model)
        assert all(map(np.array_equal, held.values(), expected.values()))
        outputs = np.load(folder / "of_other.npy")
        assert np.allclose(theirs.predict(IMAGES, verbose=0), outputs, atol=1e-5)
        for round in lottery_tf.rounds(masked(), 2, 0.5, verbose=0, directory=folder / "other"):
            raise AssertionError(f"{round} was finished on the other backend")
        return differing
    lottery_tf.prune(model, 0.5)
    model.save(folder / "of_other.keras")
    np.save(folder / "of_other.npy", model.predict(IMAGES, verbose=0))
    model = masked()
    for round in lottery_tf.rounds(model, 2, 0.5, verbose=0, directory=folder / "other"):
        fit(model, callbacks=round.callbacks)
    return {}


def check_exchange(folder):
    """Compare with another backend, whose `exchange` has written into the folder."""
    if folder is None:
        return "with no other backend"
    found = exchange(folder, read=True)
    # Scores of gradients round otherwise; two that lie so close to each other may change places.
    exact = {name: count for name, count in found.items() if count}
    of_gradients = {
        name for name in found if name.startswith(("snip", "grasp", "taylor", "synflow"))
    }
    assert exact.keys() <= of_gradients, exact
    assert all(count <= 2 for count in exact.values()), exact
    return f"masks of {len(found)} prunings, unequal: {exact or 'none'}"


def run(directory=None, *, every=False):
    """Run the checks and print a row for each; return the number of those that failed."""
    layers = tuple(ROWS) if every else USUAL
    optimizers = [
        name
        for name in (OPTIMIZERS if every else USUAL_OPTIMIZERS)
        if hasattr(keras.optimizers, name)
    ]
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        checks = {
            "resets": check_resets,
            "current masks": check_current_masks,
            "mixing optimizers": check_mixing,
            "constraint of the user": check_user_constraint,
            "readers of kernels": check_readers,
            "in place, files": functools.partial(check_in_place, folder),
            "run directory": functools.partial(check_directory, folder),
            "gradual pruning": check_gradual,
            "sparse training": check_sparse_training,
            "LoRA": functools.partial(check_lora, folder),
            "no gradient": check_lacking_gradient,
            "DataParallel": check_distribution,
            "other backend": functools.partial(check_exchange, directory),
            "layers": functools.partial(check_layers, layers),
            "optimizers": functools.partial(check_optimizers, optimizers),
        }
        if keras.backend.backend() == "tensorflow":
            del checks["no gradient"]
        warnings.filterwarnings("ignore", "Left dense")
        for name, check in checks.items():
            began = time.process_time()
            try:
                result = check() or ""
            except Exception:
                traceback.print_exc()
                result, failed = "FAILED", failed + 1
            seconds = time.process_time() - began
            print(f"{name:<24}{seconds:7.1f} s  {result}", flush=True)
    print(f"{keras.backend.backend()}: {len(checks) - failed} of {len(checks)} checks hold.")
    return failed
