"""The engine trains weights, under masks, from step s to step t, with given SGD noise."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.config.constraints import check_batch, check_updates, rewind_step
from lottery_tf.datasets import PreparedDataset, augmentation, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_generators, keras_private, optimizer_state
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights, streams
from lottery_tf.pruning.policy import MaskPolicy
from lottery_tf.pruning.schedules import learning_rates
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion.loss import Held, to_devices
from lottery_tf.repulsion.optima import repulsion_metrics
from lottery_tf.runs.checkpoints import Checkpoint, Progress
from lottery_tf.structure import structure_of
from lottery_tf.training import feeds
from lottery_tf.training.devices import FAILURES, Cluster
from lottery_tf.training.gradual import DenseGradients, changes_of
from lottery_tf.training.trainer import (
    Gradients,
    Trainer,
    count_correct,
    count_predictions,
    cross_entropy,
)
from lottery_tf.training.training import Training

PIECE_SECONDS = 2.0  # the compiled program comes up for signals about this often
SQUARED_GRADIENT_EXAMPLES = 10_000
PAPERS_REPEL = 2  # its strongest repulsion
MASK = "masks/"  # of names in a checkpoint


class Engine:
    """Runs Trainer.train_step over the epochs of a dataset; compiled once, for all rounds.

    Args:
        config: Config.
        directory: datasets.PreparedDataset of config.dataset.
        cluster: devices.Cluster, the devices to compute on.

    Attributes:
        network: the masked network; `train` gives it weights and masks.
        steps_per_epoch, steps: updates of an epoch, and of the whole schedule.
        rewind_step: the step of --rewind_to; 0 without.
        uniform: where random scores come from; runs of old versions set it to old_uniform.

    Raises:
        InputError: the data are damaged, or the batch is larger than the training split or does
            not divide by the replicas.
    """

    @keras_generators.kept()
    def __init__(self, config: Config, directory: PreparedDataset, cluster: Cluster):
        self.config, self.directory, self.cluster = config, directory, cluster
        check_batch(config, directory.splits["train"].examples, cluster.replicas)
        tfrecords.check_first(directory)
        shape, classes = directory.input_shape, directory.classes
        self.network: keras.Model = models.build(
            config, shape, classes, seed=self._seed(0), strategy=cluster.strategy
        )
        self._first = masking.get_weights(self.network)
        if cluster.replicas > 1 and config.sync_bn:
            for layer in keras_private.flatten_layers(self.network):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        with cluster.strategy.scope():
            self.trainer = Trainer(self.network, config)
        masking.variables(self.network)  # fails if two variables have one path
        self.training_state = TrainingState(self.trainer, cluster)
        self.feed = feeds.make(config, directory, cluster)
        self.steps_per_epoch = self.feed.steps_per_epoch
        check_updates(config, self.steps_per_epoch)
        self.steps = config.epochs * self.steps_per_epoch
        self.rates = learning_rates(config, self.steps_per_epoch)
        self.rewind_step = rewind_step(config, self.steps_per_epoch)
        self.uniform = streams.uniform
        self.normalise = feeds.normaliser(config, directory)
        self.augment = augmentation.choose(config, directory)
        self.jit = self._uses_xla()
        self.compile()
        self.compile_seconds = 0.0  # of the newest training
        self._seconds_per_step: float | None = None

    @functools.cached_property
    def policy(self) -> MaskPolicy:
        """When weights are pruned, to which density, and which of them go together."""
        config = self.config
        structure = structure_of(self.network, config.structure, config.structure_pool)
        return dataclasses.replace(config.policy, structure=structure)

    def _uses_xla(self) -> bool:
        """Return whether --jit_compile asks for XLA; "auto" takes it where possible and faster."""
        several = self.cluster.replicas > 1  # XLA compiles no loop around their collectives
        if several and self.config.jit_compile == "on":
            raise InputError(
                f"--jit_compile=on expects one replica. Received: {self.cluster.replicas}. Use "
                "--jit_compile=auto."
            )
        # Kernels of rank above 2 are convolutions, which XLA runs at half speed on a CPU.
        kernels = masking.kernels(self.network).values()
        convolutional = any(len(kernel.mask.shape) > 2 for kernel in kernels)
        slow = convolutional and not tf.config.list_logical_devices("GPU")
        auto = self.config.jit_compile == "auto" and not slow and not several
        return auto or self.config.jit_compile == "on"

    def compile(self) -> None:
        """Make the compiled programs; each is traced when it is first called.

        AutoGraph would find nothing to rewrite in them, and takes seconds to look.
        """
        jit, loop = self.jit, self.feed.compiled_as_loop
        self._one_step = tf.function(self._step, jit_compile=jit and not loop, autograph=False)
        self.run_steps = tf.function(self._steps, jit_compile=jit and loop, autograph=False)
        self.evaluator = Evaluator(
            self.network, self.feed, self.normalise, self.cluster, jit_compile=jit
        )

    def _step(self, inputs: feeds.Inputs, rate: tf.Tensor, optima: Held) -> None:
        images, labels, draws = self.feed.replica_batch(*inputs)
        learning_rate = self.trainer.optimizer.learning_rate
        learning_rate.assign(tf.cast(rate, learning_rate.dtype))
        images = self.normalise(self.augment(images, draws))
        self.trainer.train_step((images, labels), optima)

    def _steps(
        self,
        epoch: feeds.Inputs | Iterator[feeds.Inputs],
        rates: tf.Tensor,
        first: tf.Tensor,
        last: tf.Tensor,
        optima: Held,
    ) -> None:
        """Make steps first to last - 1 of an epoch, which feed.start_epoch gave."""

        def make(step: tf.Tensor) -> tf.Tensor:
            inputs = self.feed.step_inputs(epoch, step)
            self.cluster.strategy.run(self._one_step, args=(inputs, rates[step], optima))
            return step + 1

        # A loop over tf.range would be compiled anew for every pair of bounds.
        tf.while_loop(lambda step: step < last, make, [first])

    def _seed(self, round: int) -> int:
        return streams.initialization_seed(self.config.init_seed, round)

    def initialization(self, round: int) -> Weights:
        """Return {variable path: array}: the fresh weights of a round, a function of its seed."""
        if not round:
            return self._first
        shape, classes = self.directory.input_shape, self.directory.classes
        return masking.get_weights(
            models.build(self.config, shape, classes, seed=self._seed(round))
        )

    def dense_masks(self) -> Masks:
        """Return {kernel path: bool array}, True everywhere."""
        kernels = masking.kernels(self.network)
        return {path: np.ones(kernel.mask.shape, bool) for path, kernel in kernels.items()}

    def masks(self) -> Masks:
        """Return {kernel path: bool array} of the network as it is."""
        return masking.get_masks(self.network)

    def state(self) -> Weights:
        """Return {name: array} of all that a training holds between two steps.

        Every worker calls it.
        """
        return self.training_state.capture()

    def train(
        self,
        training: Training,
        *,
        on_piece: Callable[[Progress], None] | None = None,
        on_epoch: Callable[[Row], None] | None = None,
        halts: Sequence[int] = (),
    ) -> tuple[Weights, list[Row]]:
        """Train with a fresh optimizer, or resume from a checkpoint as if it had never stopped.

        Args:
            training: Training; all but its start are those of the checkpoint, if it has one.
            on_piece: called every few seconds with the Progress; what it raises ends the training.
            on_epoch: called with each row of the history.
            halts: steps after which a piece ends, so that on_piece is called there.

        Returns:
            (weights, history): new {variable path: array}, and per finished epoch a dict of
            epoch (from 1), step, learning_rate, train_loss, train_accuracy (running means, without
            other losses), test_loss, test_accuracy, test_largest_class (part of the examples that
            are predicted to be of the most frequent class), seconds (of all) and train_seconds (of
            the steps).

        Raises:
            InputError: the loss is not finite, or a streamed file is damaged.
        """
        last = self.steps if training.last is None else training.last
        self._changes = changes_of(self, training.density)
        self._optima = to_devices(training.optima, self.cluster.copies)
        self.compile_seconds, self._halts = 0.0, halts
        if training.optima:
            self._seconds_per_step = None  # their shapes are new: the program is compiled again
        if isinstance(training.start, Checkpoint):
            progress = training.start.progress
            self.training_state.restore(training.start.state, training.masks)
        else:
            progress = Progress(training.first)
            self.training_state.start(training)
            self._change_masks(progress.step, training.noise)
        while progress.step < last:
            before = progress
            for progress in self._epoch(training, before, last):
                if on_epoch and len(progress.history) > len(before.history):
                    on_epoch(progress.history[-1])
                if on_piece:
                    on_piece(progress)
        return masking.get_weights(self.network), progress.history

    def _epoch(self, training: Training, progress: Progress, last: int) -> Iterator[Progress]:
        """Yield the Progress of an epoch, piece by piece, from the given one on."""
        epoch, step = divmod(progress.step, self.steps_per_epoch)
        base = epoch * self.steps_per_epoch
        stop = min(self.steps_per_epoch, last - base)
        if step == 0:
            self.trainer.set_totals(0)
        began = time.perf_counter()
        steps = np.arange(base, base + self.steps_per_epoch)
        rates = tf.constant(self.rates[np.minimum(steps, self.steps - 1)])
        # Where something happens between two steps, a piece ends.
        halts = [at - base for at in (*self._halts, *self._changes.steps)]
        data = self.feed.start_epoch(training.noise, epoch, step)
        while step < stop:
            seconds = self._seconds_per_step or np.inf  # the first piece is one step, and compiling
            longest = max(1, int(PIECE_SECONDS / seconds))
            end = min(stop, step + longest, *(at for at in halts if at > step))
            train_seconds, totals = self._run_piece(data, rates, step, end)
            mean_loss, accuracy = self._running_means(training, totals)
            self._change_masks(base + end, training.noise)
            progress = dataclasses.replace(
                progress,
                step=base + end,
                loss=mean_loss,
                accuracy=accuracy,
                train_seconds=progress.train_seconds + train_seconds,
            )
            step = end
            if step < self.steps_per_epoch:
                seconds = progress.seconds + time.perf_counter() - began
                progress = dataclasses.replace(progress, seconds=seconds)
            else:
                row = self._row(training, progress, float(rates[-1]))
                row["seconds"] = progress.seconds + time.perf_counter() - began
                row["train_seconds"] = progress.train_seconds
                progress = dataclasses.replace(
                    progress, history=[*progress.history, row], seconds=0.0, train_seconds=0.0
                )
            yield progress
            began = time.perf_counter()

    def _change_masks(self, step: int, noise: Noise) -> None:
        """Prune gradually, or drop and regrow, if that is due before a step."""
        if step in self._changes.steps:
            weights = masking.get_weights(self.network)
            masks = self._changes.masks(step, weights, self.masks(), noise)
            optimizer_state.set_masks(self.network, masks, [self.trainer.optimizer])

    def _run_piece(
        self,
        data: feeds.Inputs | Iterator[feeds.Inputs],
        rates: tf.Tensor,
        first: int,
        last: int,
    ) -> tuple[float, Array]:
        """Make steps first to last - 1 of an epoch; return (seconds, Trainer.totals)."""
        began = time.perf_counter()
        try:
            self.run_steps(data, rates, tf.constant(first), tf.constant(last), self._optima)
            totals = self.trainer.totals.numpy()
        except tf.errors.OpError as error:
            if not (self.cluster.workers > 1 and isinstance(error, FAILURES)):
                self.feed.check()  # the error names no file; this does
            raise
        seconds = step_seconds = time.perf_counter() - began
        if self._seconds_per_step is None:  # one step, and compiling
            self.compile_seconds += seconds
            step_seconds = 0.0
        # All workers must run equal pieces.
        (total,) = self.cluster.sum(np.array([seconds / (last - first)]))
        self._seconds_per_step = total / self.cluster.workers
        return step_seconds, totals

    def _running_means(self, training: Training, totals: Array) -> tuple[float, float]:
        """Return (loss, accuracy) of an epoch so far, from Trainer.totals.

        Raises:
            InputError: the loss was not finite; it names the first such update.
        """
        bad = totals[:, 3][totals[:, 3] > 0]
        if bad.size:
            updates = int(bad.min()) - 1  # before it
            step, what = training.first + updates, "loss is not finite"
            raise self._diverged(training, step, what, updated=updates > 0)
        loss, correct, examples, _ = totals.sum(0)
        return float(loss / examples), float(correct / examples)

    def _row(self, training: Training, progress: Progress, rate: float) -> Row:
        """Return the row of the history for the epoch that ends here, without its times."""
        test_loss, test_accuracy, largest_class = self.evaluator.evaluate()
        if not np.isfinite(test_loss):
            raise self._diverged(training, progress.step - 1, f"test loss is {test_loss}")
        row: Row = {
            "epoch": progress.step // self.steps_per_epoch,
            "step": progress.step,
            "learning_rate": rate,
            "train_loss": progress.loss,
            "train_accuracy": progress.accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "test_largest_class": largest_class,
        }
        if training.optima:
            weights = masking.get_weights(self.network)
            strength, scope = self.config.repel, self.config.repel_scope
            row |= repulsion_metrics(weights, training.optima, strength=strength, scope=scope)
        return row

    def _diverged(
        self, training: Training, step: int, what: str, *, updated: bool = True
    ) -> InputError:
        """Return the error of a training that diverged at a step, counted from 0."""
        ways = remedies(self.config, repelled=bool(training.optima), updated=updated)
        return InputError(
            f"Round {training.noise.round}, epoch {step // self.steps_per_epoch + 1}, step {step}: "
            f"the {what}. The finished rounds are kept. In another --run_dir, {', or '.join(ways)}."
        )

    def evaluate(self) -> tuple[float, float]:
        """Return (mean cross-entropy, accuracy) of the network on the whole test split."""
        return self.evaluator.evaluate()[:2]

    def squared_gradients(self, noise: Noise) -> Weights:
        """Return {kernel path: mean squared gradient of the data} at the weights as they are."""
        return self._squared_gradients.mean(noise)

    @functools.cached_property
    def dense_gradients(self) -> DenseGradients:
        """The gradients of all weights, pruned ones too, by which weights grow."""
        return DenseGradients(self)

    @functools.cached_property
    def _squared_gradients(self) -> "SquaredGradients":
        return SquaredGradients(self)


def remedies(config: Config, *, repelled: bool, updated: bool) -> list[str]:
    """Return what may keep the loss of a training finite, the likeliest first.

    Args:
        config: Config.
        repelled: whether the repellent loss is part of it.
        updated: whether an update came before; else the learning rate is not to blame.
    """
    ways = []
    if updated:
        ways.append(f"lower --learning_rate={config.learning_rate:g}")
        if not config.warmup_epochs:
            ways.append("raise --warmup_epochs")
        if config.learning_rate * config.weight_decay > 1:  # more than the whole weight
            ways.insert(0, f"lower --weight_decay={config.weight_decay:g}")
    if repelled:
        place = 0 if abs(config.repel) > PAPERS_REPEL else len(ways)
        ways.insert(place, f"bring --repel={config.repel:g} nearer to 0")
    if config.mixed_precision == "float16":
        ways.append("use --mixed_precision=bfloat16")
    return ways or ["look for what is not finite in the data and in the network's own start"]


class TrainingState:
    """Sets all that a training holds between two steps to a start or a checkpoint, and reads it.

    Args:
        trainer: Trainer.
        cluster: devices.Cluster.
    """

    def __init__(self, trainer: Trainer, cluster: Cluster):
        self.trainer, self.network, self.cluster = trainer, trainer.network, cluster
        self.masks_change = False
        self.dropout = [v for v in self.network.variables if "seed_generator" in v.path]
        self._assign_dropout = tf.function(self._assign, autograph=False)

    def start(self, training: Training) -> None:
        """Begin a Training: its weights and masks, a fresh optimizer, its noise's dropout."""
        self.masks_change = training.density is not None
        masking.set_weights(self.network, training.weights, training.masks)
        self.trainer.reset_optimizer()
        self.trainer.set_totals(0)
        generators = (training.noise.dropout(training.first, i) for i in range(len(self.dropout)))
        self._set_dropout(
            [
                generator.integers(0, 2**32, variable.shape, np.uint32)
                for generator, variable in zip(generators, self.dropout, strict=True)
            ]
        )

    def capture(self) -> Weights:
        """Return {name: array} of all of it; every worker calls it."""
        state = {f"weights/{path}": w for path, w in masking.get_weights(self.network).items()}
        for index, variable in enumerate(self.trainer.optimizer.variables):
            state[f"optimizer/{index:04d}"] = variable.numpy()
        for index, variable in enumerate(self.dropout):
            state[f"dropout/{index}"] = variable.numpy()
        if self.masks_change:
            masks = masking.get_masks(self.network)
            state |= {f"{MASK}{path}": mask for path, mask in masks.items()}
        return state | {"totals": self.trainer.totals.numpy()}

    def restore(self, state: Weights, masks: Masks) -> None:
        """Go back to what `capture` returned; the number of replicas may have changed."""
        paths = masking.variables(self.network)
        weights = {path: state[f"weights/{path}"] for path in paths}
        own = {name.removeprefix(MASK): a for name, a in state.items() if name.startswith(MASK)}
        self.masks_change = bool(own)
        masking.set_weights(self.network, weights, own or masks)
        for index, variable in enumerate(self.trainer.optimizer.variables):
            variable.assign(state[f"optimizer/{index:04d}"])
        self.trainer.set_totals(state["totals"])
        self._set_dropout([state[f"dropout/{index}"] for index in range(len(self.dropout))])

    def _set_dropout(self, states: list[Array]) -> None:
        """Give every replica a stream of its own; the state of the first one names them all."""
        replicas = np.arange(self.cluster.replicas, dtype=np.uint32)
        offsets = np.stack([replicas, np.zeros_like(replicas)], 1)  # (replicas, 2)
        self._assign_dropout([tf.constant(state + offsets) for state in states])

    def _assign(self, states: list[tf.Tensor]) -> None:
        def assign() -> None:
            for variable, rows in zip(self.dropout, states, strict=True):
                variable.assign(rows[self.cluster.replica])

        self.cluster.strategy.run(assign)


class Evaluator:
    """Measures exact loss and accuracy on the test split, each replica on its part of it.

    Args:
        network: keras.Model, images -> logits.
        feed: Feed.
        normalise: the function of images that feeds.normaliser returns.
        cluster: devices.Cluster.
        jit_compile: whether to compile with XLA.
    """

    def __init__(
        self,
        network: keras.Model,
        feed: feeds.Feed,
        normalise: Callable,
        cluster: Cluster,
        *,
        jit_compile: bool,
    ):
        self.network, self.feed, self.cluster = network, feed, cluster
        self.normalise = normalise
        # The sum of the losses, the correct ones, the examples, and the predictions of each class.
        self.columns = 3 + network.output_shape[-1]
        self._run = tf.function(self._replicas, jit_compile=jit_compile, autograph=False)

    def evaluate(self) -> tuple[float, float, float]:
        """Return (mean cross-entropy, accuracy, part of the most frequently predicted class)."""
        totals = np.zeros(self.columns)
        for images, labels in self.feed.test_pieces():
            parts = self._run(images, labels)
            for part in self.cluster.strategy.experimental_local_results(parts):
                totals += part.numpy()
        loss, correct, examples, *predictions = self.cluster.sum(totals)
        if examples != self.feed.test_examples:
            raise RuntimeError(
                f"Evaluated {examples:.0f} of the {self.feed.test_examples} test examples."
            )
        return float(loss / examples), float(correct / examples), float(max(predictions) / examples)

    def _replicas(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return self.cluster.strategy.run(self._rows, args=(images, labels))

    def _rows(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the columns of this replica's part of a piece, float64.

        A piece is evaluated batch by batch in one compiled loop: a call for each batch took as
        long as its products.
        """
        size = feeds.EVALUATION_BATCH
        batches, rest = divmod(images.shape[0], size)

        def add(index: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = (_slice(array, index * size, size) for array in (images, labels))
            return index + 1, totals + self._batch(*batch)

        totals = tf.zeros(self.columns, tf.float64)
        if batches:
            _, totals = tf.while_loop(
                lambda index, _: index < batches, add, (tf.constant(0), totals)
            )
        return totals + self._batch(images[-rest:], labels[-rest:]) if rest else totals

    def _batch(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the columns of this replica's part of a batch, float64."""
        mine = slice(self.cluster.replica_here, None, self.cluster.replicas_here)
        images, labels = images[mine], labels[mine]
        logits = tf.cast(self.network(self.normalise(images), training=False), tf.float32)
        losses = tf.reduce_sum(cross_entropy(labels, logits))
        examples = tf.cast(tf.shape(labels)[0], tf.float32)
        sums = tf.stack([losses, count_correct(labels, logits), examples])
        return tf.cast(tf.concat([sums, count_predictions(logits)], 0), tf.float64)


def _slice(array: tf.Tensor, start: tf.Tensor, size: int) -> tf.Tensor:
    """Return array[start : start + size], of a shape that the compiler knows."""
    begin = [start] + [0] * (len(array.shape) - 1)
    return tf.slice(array, begin, [size, *array.shape[1:]])


class SquaredGradients:
    """Computes the mean over batches of the squared gradient of a batch's mean loss; compiled once.

    It estimates the diagonal of the Fisher information, over the first 10,000 training examples
    that the noise's first epoch visits, in evaluation mode. As the mean over a batch comes before
    the square, the values fall with the batch size; --repel_weighting uses their proportions.
    Images are not flipped or padded; those of varying size are cropped at random, as in training.
    Networks of float16 are computed in float32.

    Args:
        engine: Engine.
    """

    def __init__(self, engine: Engine):
        self.engine, self.network = engine, engine.network
        if engine.config.mixed_precision == "float16":  # where small gradients would be zero
            shape, classes = engine.directory.input_shape, engine.directory.classes
            strategy = engine.cluster.strategy
            self.network = models.build(
                engine.config, shape, classes, seed=0, strategy=strategy, policy="float32"
            )
        self.kernels = masking.kernels(self.network)
        self._variables = [kernel.variable.value for kernel in self.kernels.values()]
        self._gradients = tf.function(self._gradients_of_batch, autograph=False)

    def mean(self, noise: Noise) -> Weights:
        """Return {kernel path: float32 array}, of the engine's network as it is."""
        engine = self.engine
        if self.network is not engine.network:
            masking.set_weights(self.network, masking.get_weights(engine.network), engine.masks())
        batch_size, steps = engine.config.batch_size, engine.steps_per_epoch
        count = max(1, min(SQUARED_GRADIENT_EXAMPLES // batch_size, steps))
        data = engine.feed.start_epoch(noise, 0, 0)
        sums = [np.zeros(kernel.mask.shape) for kernel in self.kernels.values()]
        for step in range(count):
            parts = self._gradients(engine.feed.step_inputs(data, step))
            for total, gradient in zip(sums, parts, strict=True):
                total += gradient.numpy() ** 2
        means = [(total / count).astype(np.float32) for total in sums]
        return dict(zip(self.kernels, means, strict=True))

    def _gradients_of_batch(self, inputs: feeds.Inputs) -> list[tf.Tensor]:
        """Return the gradients of a batch's mean loss, over all replicas."""
        engine, strategy = self.engine, self.engine.cluster.strategy

        def share(*inputs: tf.Tensor) -> Gradients:
            images, labels, _ = engine.feed.replica_batch(*inputs)
            with tf.GradientTape() as tape:
                logits = self.network(engine.normalise(images), training=False)
                losses = cross_entropy(labels, tf.cast(logits, tf.float32))
                mean = tf.reduce_mean(losses) / engine.cluster.replicas
            return tape.gradient(mean, self._variables)

        parts = strategy.run(share, args=inputs)
        return [strategy.reduce("SUM", part, axis=None) for part in parts]
