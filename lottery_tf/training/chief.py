"""The chief of a run: it goes through `PruningRounds` and tells every worker what to train."""

import dataclasses
import math
from collections.abc import Callable

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.loop import calibration
from lottery_tf.loop.observers import RoundObserver
from lottery_tf.loop.pruning_rounds import Plan, PruningRounds, Trained
from lottery_tf.loop.round_0 import take_round_0
from lottery_tf.loop.store import RoundStore
from lottery_tf.masking import kernel_inputs
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights, collapse, streams
from lottery_tf.pruning.allocation import SparsityTarget, allocate, matching
from lottery_tf.repulsion.optima import compare_with_optima, optima_of
from lottery_tf.runs.rundir import RunDir
from lottery_tf.structure import in_words
from lottery_tf.training.engine import Engine
from lottery_tf.training.gradual import check_changes
from lottery_tf.training.network import EngineNetwork
from lottery_tf.training.training import Training

LAST_EPOCH = (
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "test_largest_class",
    "repel_loss",
    "cosine_nearest",
    "cosine_mean",
)


class Chief:
    """What a run trains next, and what came of it.

    Args:
        config: Config.
        run: an open RunDir.
        engine: Engine.
        measure: a function of (round, its trained weights) that returns further columns of the
            round's row.

    Raises:
        InputError: a file of the run or of --round_0_from is damaged.
    """

    def __init__(
        self, config: Config, run: RunDir, engine: Engine, measure: Callable[[int, Weights], Row]
    ):
        self.config, self.run, self.engine, self.measure = config, run, engine, measure
        self.store = RoundStore(run)
        self.store.begin()
        plan = plan_of(config, engine)
        network = EngineNetwork(engine, self.store)
        if config.round_0_from and not run.finished_rounds():
            take_round_0(config, run, PruningRounds(plan, network, self.store, run.log))
        self.observer = RoundObserver(
            run, config.rounds, epochs=config.epochs, steps_per_epoch=engine.steps_per_epoch
        )
        structure = engine.policy.structure
        if structure and (left := in_words(structure)):
            self.observer.report(left)
        self.observer.print_header()
        for row in run.metrics():
            self.observer.print_row(row)
        self.pruning = PruningRounds(plan, network, self.store, self.observer.report)
        self.rounds = iter(self.pruning)

    def next_training(self) -> Training | None:
        """Return the Training of the next round; None after the last."""
        config = self.config
        self.round = round = next(self.rounds, None)
        if round is None:
            return None
        return Training(
            round.start,
            round.masks,
            streams.Noise(config.data_seed, round.number),
            optima_of(config, self.run, round.number, round.masks),
            round.first_step,
            end_of_round(
                config,
                self.engine.steps,
                self.engine.steps_per_epoch,
                self.run,
                round.number,
                round.first_step,
            ),
            round.gradual,
        )

    def save_rewind_point(self, weights: Weights) -> None:
        """Keep the weights that later rounds rewind to."""
        try:
            self.store.save_rewind_point(self.engine.rewind_step, weights)
        except InputError as error:  # it can be trained again
            self.observer.report(f"No rewind point at step {self.engine.rewind_step}: {error}")

    def finish(
        self,
        training: Training,
        weights: Weights,
        history: list[Row],
        squared_gradients: Weights | None,
    ) -> None:
        """Prune, save and show the round whose Training has ended; arguments as Engine.train's."""
        assert self.round, "a training belongs to a round"
        number, optima, last = self.round.number, training.optima, history[-1]
        directory = self.engine.directory
        metrics: Row = {"round": number, "density": 0.0, "threshold": 0.0}
        metrics |= {name: last[name] for name in LAST_EPOCH if name in last}
        metrics |= {
            "seconds": 0.0,
            "train_seconds": sum(row["train_seconds"] for row in history),
            "compile_seconds": self.engine.compile_seconds,
            "smallest_kept": 0.0,
            "remaining": 0,
        }
        trained = Trained(
            weights,
            history,
            metrics | self.measure(number, weights),
            masks=self.engine.masks() if training.density is not None else None,
            began=self.observer.began,
            collapses=collapse.of_predictions(
                last["test_accuracy"],
                last.get("test_largest_class", math.nan),
                directory.classes,
                directory.splits["test"].examples,
            ),
            squared_gradients=squared_gradients,
            tables={"repulsion.csv": compare_with_optima(weights, optima)} if optima else {},
        )
        row = self.round.finish(trained)
        self.observer.finish_round(row, weights, self.round.masks)


def check_pruning(config: Config, engine: Engine) -> None:
    """Raise InputError if the network has no such layers, or densities cannot be reached.

    Every worker calls this, so that each says what is wrong.
    """
    for density in config.policy.targets or (None,):
        allocate(engine.policy.to_density(density), engine.dense_masks())
    masks = engine.dense_masks()
    dense = [path for name in config.keep_dense for path in matching(name, masks)]
    calibration.check_layers(engine.network, config.criterion, dense)
    check_changes(engine)


def plan_of(config: Config, engine: Engine) -> Plan:
    """Return the Plan that the flags of a run state."""
    axes = kernel_inputs.output_axes(engine.network)

    def target(round: int) -> SparsityTarget | None:
        found = engine.policy.target(round)
        return found and dataclasses.replace(found, output_axes=axes)

    return Plan(
        config.rounds,
        config.reset,
        target,
        "random" if config.policy.prunes_at == "dynamic" else config.criterion,
        config.prune_iterations,
        config.init_seed,
        prune_at=config.policy.prunes_at,
        masks_from=config.masks_from,
        shuffle_masks=config.shuffle_masks,
        rewind_step=engine.rewind_step,
        schedule_steps=engine.steps,
    )


def end_of_round(
    config: Config, steps: int, steps_per_epoch: int, run: RunDir, round: int, first: int
) -> int | None:
    """Return the step that a round ends at; None: the end of the schedule.

    After two rounds that are connected, --early_stop makes the next one short, unless it is one of
    --full_rounds. A short round that starts inside an epoch ends with one, too: there it is
    evaluated.

    Args:
        config: Config.
        steps, steps_per_epoch: of the schedule.
        run: RunDir.
        round: number of the round.
        first: the step that it starts at.
    """
    if config.early_stop == "connected" and round > 1 and round not in config.full_rounds:
        barrier = run.metrics_of(round - 1)["barrier"]
        short = (-(-first // steps_per_epoch) + config.short_epochs) * steps_per_epoch
        if barrier < config.connected_error and short < steps:
            run.log(
                f"round {round} is short: rounds {round - 2} and {round - 1} are connected, with "
                f"a barrier of {barrier:.2%}"
            )
            return short
    if first >= steps:
        return first + (config.finetune_epochs or config.epochs) * steps_per_epoch
    return None
