"""`rounds`: iterative magnitude pruning around the user's own training."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.loop import checks
from lottery_tf.loop.arguments import Arguments
from lottery_tf.loop.callbacks import Epochs, RewindPoint, rows_of
from lottery_tf.loop.model import ModelNetwork
from lottery_tf.loop.model_store import ModelStore, first_density_in, place
from lottery_tf.loop.observers import RoundObserver
from lottery_tf.loop.optimizers import FreshOptimizers
from lottery_tf.loop.prune import Data
from lottery_tf.loop.pruning_rounds import Plan, PruningRound, PruningRounds, Trained
from lottery_tf.loop.scoring import Sample
from lottery_tf.masking import keras_generators, optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer
from lottery_tf.plots import Row
from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.terminal import console

# {model: digest of the first weights of the last `rounds` that it was given}
_FIRST: weakref.WeakKeyDictionary[keras.Model, str] = weakref.WeakKeyDictionary()

COLUMNS: console.Columns = {
    "round": console.COLUMNS["round"],
    "density": console.COLUMNS["density"],
    "train_loss": ("train loss", 10, "{:.4f}"),
    "train_accuracy": console.COLUMNS["train_accuracy"],
    "test_loss": ("val loss", 9, "{:.4f}"),
    "test_accuracy": ("val acc", 9, "{:.2%}"),
    "threshold": console.COLUMNS["threshold"],
    "seconds": console.COLUMNS["seconds"],
}


@dataclasses.dataclass(frozen=True, repr=False)
class Round:
    """One round of `rounds`.

    Args:
        index: the number of the round, from 0.
        density: the part of the prunable weights that this round trains.
        first_step: the step at which the learning rate's schedule continues: 0 unless the reset
            rewinds it.
        callbacks: callbacks for your `fit`. They keep the rewind point in round 0, the metrics of
            each epoch, and, with a directory, the state after each epoch.
        kernel_density: the surviving part of all kernels, with those that have no mask and those
            that are frozen.
        history: {column: value} for each finished round. The list grows, so after the last round it
            holds all of them.
        optimizers: the names of the attributes that hold the optimizers which restart in this
            round.
    """

    index: int
    density: float
    first_step: int = 0
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)
    kernel_density: float = 1.0
    history: list[Row] = dataclasses.field(default_factory=list)
    optimizers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"index": self.index, "density": float(f"{self.density:.4g}")}
        if self.first_step:
            shown["first_step"] = self.first_step
        shown["optimizers"] = list(self.optimizers)
        return f"Round({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def rounds(
    model: keras.Model,
    rounds: int,
    fraction: float | None = None,
    *,
    densities: Sequence[float] = (),
    target_density: float | None = None,
    reset: str = "init",
    rewind_to: int = 0,
    seed: int = 0,
    criterion: Criterion = "magnitude",
    data: Data = None,
    iterations: int | None = None,
    scope: str | None = None,
    layer_fractions: Mapping[str, float] | None = None,
    keep_dense: Sequence[str] = (),
    min_layer_weights: int = 0,
    structure: str | tuple[int, int] | None = None,
    pool: str = "sum",
    optimizers: Sequence[Optimizer] = (),
    directory: str | os.PathLike | None = None,
    verbose: int = 1,
) -> Iterator[Round]:
    """Prune iteratively around your own training: yield each Round, which you train.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3, callbacks=round.callbacks)

    Every round begins with the weights reset and the next masks in place. Round 0 begins with the
    current weights; a warning appears if the model was trained before. After your training, the
    model is pruned for the next round. The rounds end early, with a warning, when nothing is left
    to prune.

    Every optimizer of the model, and of a layer that holds one, restarts in each round: its step,
    its slots and its learning rate. Round.optimizers names them. An optimizer that you compile
    inside a round restarts from its state at the first `fit` with round.callbacks.

    Args:
        model: a model that `masked` or `mask` returned, compiled or not. It need not have a call()
            if its masked parts are built.
        rounds: the number of rounds, round 0 included.
        fraction: the part of the surviving weights to prune after each round but the last. Give one
            of `fraction`, `densities` and `target_density`.
        densities: the densities of the rounds after round 0.
        target_density: the density of the last round. Each pruning removes the same part.
        reset: what a round starts from: a key of lottery_tf.pruning.resets.RESETS. "init": the
            initial weights (a lottery ticket). "rewind": the weights after `rewind_to` steps, which
            needs round.callbacks in the `fit` of round 0. "reinit": fresh weights. "finetune": the
            trained weights. For "rewind", "lr_rewind" and "finetune" your `fit` sets the learning
            rate; round.first_step is the step at which its schedule continues.
        rewind_to: the step of round 0, in batches, to rewind to.
        seed: the seed of fresh weights and of everything that is drawn at random.
        criterion: see `prune`.
        data: see `prune`.
        iterations: see `prune`.
        scope: see `prune`.
        layer_fractions: see `prune`.
        keep_dense: see `prune`.
        min_layer_weights: see `prune`.
        structure: see `prune`. An N:M pattern takes two rounds, or the `densities` on the way to
            it: [0.75, 0.5] for "2:4".
        pool: see `prune`.
        optimizers: optimizers of your own training loop that the model does not hold.
        directory: a run directory that keeps every finished round. The same call resumes after the
            last finished round, and with round.callbacks in `fit` after the last finished epoch.
        verbose: 0 prints nothing. 1 prints a line at the start, a row for each finished round, and
            a line if a round has collapsed.

    Yields:
        A Round, with its `index`, `density`, `callbacks` for your `fit`, and `history`.

    Raises:
        InputError: at the call, a value is out of bounds, or a later round needs something that is
            missing; in round 1, round 0 kept no rewind point.
    """
    sample = None if data is None else Sample(data)
    structured = checks.structure_of(model, structure, pool, "rounds")
    where = checks.where(
        scope, criterion, layer_fractions, keep_dense, min_layer_weights, structured
    )
    arguments = Arguments(
        model, rounds, fraction, densities, target_density, reset, rewind_to, seed,
        criterion, sample, iterations, where, first_density_in(directory),
    )  # fmt: skip
    checks.whole_number(0, verbose=int(verbose) if isinstance(verbose, bool) else verbose)
    optimizer_state.check(optimizers)
    with keras_generators.kept():
        targets = arguments.check()
        store = None if directory is None else ModelStore(directory, arguments)
        fresh = FreshOptimizers(model, optimizers)
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    masking.compile_with_masks(model)
    if store is None or not store.continues():
        _warn_if_trained(model, stacklevel=2)
    # Without a directory nobody sees what a pruning after the last round would remove.
    targets = targets if store else targets[: rounds - 1]
    plan = Plan(
        rounds,
        reset,
        lambda round: targets[round] if round < len(targets) else None,
        criterion,
        iterations,
        seed,
        rewind_step=rewind_to,
        may_grow=False,
    )
    return _train_rounds(plan, model, sample, store, fresh, verbose=bool(verbose))


def _train_rounds(
    plan: Plan,
    model: keras.Model,
    sample: Sample | None,
    store: ModelStore | None,
    optimizers: FreshOptimizers,
    *,
    verbose: bool,
) -> Iterator[Round]:
    """Yield the rounds of a plan to their user, who trains them."""
    with store.run.open(store.record) if store else contextlib.nullcontext(0) as finished:
        if store:
            store.begin()
            store.run.log(f"rounds around fit: {finished} of {plan.rounds} are finished")
        first = store.first_weights() if store else masking.get_weights(model)
        point = _rewind_point(plan, store, finished)
        if store and finished:
            place(store.run, finished - 1, model)
        _note(model, first)
        history = store.run.metrics() if store else []
        observer = RoundObserver(
            store.run if store else None,
            plan.rounds,
            columns=COLUMNS,
            say=console.print_line if verbose else warnings.warn,
            quiet=not verbose,
        )
        if verbose:
            _say_start(observer, model, store, history, plan.rounds)
        network = ModelNetwork(model, first, plan.seed, sample, store, point)
        coverage, named = checks.Coverage.of(model), None
        pruning_rounds = PruningRounds(plan, network, store, _warn_of_end)
        if pruning_rounds.before:
            _warn_of_death(pruning_rounds.before, model, plan)
        for pruned in pruning_rounds:
            checks.check_same_variables(model, first, pruned.number)
            masking.set_weights(model, pruned.start, pruned.masks)
            names = optimizers.renew()
            if names != named and (names or pruned.number):  # round 0 may make the first
                line = _of_optimizers(model, names)
                if store:
                    store.run.log(line)
                if verbose:
                    console.print_line(line)
                named = names
            epochs = Epochs(
                store.backups(pruned.number) if store else None,
                before_training=optimizers.remember,
                # Without a constraint an optimizer may store others there, as Muon does.
                after_epoch=functools.partial(masking.apply_masks, model),
            )
            before, began = getattr(model, "history", None), time.perf_counter()
            competing = checks.prunable(model)
            round = Round(
                pruned.number,
                pruning.density(competing),
                pruned.first_step,
                [epochs] if pruned.number or not point else [epochs, point],
                coverage.density(competing.values()),
                history,
                tuple(names),
            )
            with masking.holding(model, f"round {pruned.number}"):
                yield round
            masking.apply_masks(model)
            if store or pruned.number < plan.rounds - 1:
                checks.check_same_variables(model, first, pruned.number + 1)
            seconds = time.perf_counter() - began
            # Who does not pass the callbacks has what Keras keeps of the last fit.
            after = getattr(model, "history", None)
            fitted = after is not None and after is not before
            rows = epochs.rows or (rows_of(after) if fitted else [])
            metrics = _metrics(round, rows, seconds)
            row = pruned.finish(Trained(masking.get_weights(model), rows, metrics))
            history.append(row)
            _warn_of_death(pruned, model, plan)
            observer.start_curves(pruned.number, sum(of["epochs"] for of in history[:-1]))
            for epoch in rows:
                observer.add_epoch(epoch)
            weights, kept = store.saved if store else (pruned.trained(), pruned.masks)
            observer.finish_round(row, pruning.apply_masks(weights, kept), kept)


def _rewind_point(plan: Plan, store: ModelStore | None, finished: int) -> RewindPoint | None:
    """Return the callback that keeps the rewind point in round 0, where the plan needs it."""
    if plan.reset != "rewind":
        return None
    if not store:
        return RewindPoint(plan.rewind_step)

    def keep(weights: Weights) -> None:
        store.save_rewind_point(plan.rewind_step, weights)

    return RewindPoint(plan.rewind_step, keep, continues=not finished and store.has_backup(0))


def _say_start(
    observer: RoundObserver,
    model: keras.Model,
    store: ModelStore | None,
    history: list[Row],
    rounds: int,
) -> None:
    if not store:
        density = pruning.density(checks.prunable(model))
        of = f"the weights that {model.name} has"
        return observer.say(f"Round 0 starts from {of}, at density {density:.2%}.")
    observer.say(f"{store.run.path}: {len(history)} of {rounds} rounds are finished.")
    for row in history:
        observer.print_row(row)


def _of_optimizers(model: keras.Model, names: list[str]) -> str:
    if names:
        return f"Reset in each round: {', '.join(names)}."
    return (
        f"No optimizer is reset, as {model.name} holds none. If your training loop has one, pass "
        "it to rounds(optimizers=[...])."
    )


def _metrics(round: Round, history: list[Row], seconds: float) -> Row:
    """Return the row of a round: its columns in their order, and those of its last epoch."""
    last = history[-1] if history else {}
    own: Row = {"round": round.index, "density": round.density}
    own |= {"kernel_density": round.kernel_density}
    own |= dict.fromkeys(("threshold", "smallest_kept", "remaining"), math.nan)
    own |= {"seconds": seconds, "collapse": math.nan}
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    usual = {name: last.get(name, math.nan) for name in names}
    others = {name: value for name, value in last.items() if name not in ("epoch", "seconds")}
    # A metric of the user's may have a name of ours.
    later = {name: value for name, value in (usual | others).items() if name not in own}
    return own | later | {"epochs": len(history)}


def _warn_of_end(line: str) -> None:
    warnings.warn(line, stacklevel=4)  # the user's loop


def _warn_of_death(pruned: PruningRound, model: keras.Model, plan: Plan) -> None:
    if pruned.number == plan.rounds - 1:
        return
    paths = checks.prunable(model)
    before, after = ({p: masks[p] for p in paths} for masks in (pruned.masks, pruned.next_masks))
    another = pruned.number < plan.rounds - 2
    checks.warn_of_death(before, after, another=another, stacklevel=3)


def _note(model: keras.Model, start: Weights) -> None:
    """Note the first weights of rounds that begin, under the masks that the model has."""
    _FIRST[model] = _fingerprint(start, masking.get_masks(model))


def _warn_if_trained(model: keras.Model, stacklevel: int) -> None:
    """Warn where earlier rounds have trained a model: the next ones start from what they left."""
    masks = masking.get_masks(model)
    now = _fingerprint(masking.get_weights(model), masks)
    if _FIRST.get(model, now) != now:
        warnings.warn(
            f"rounds: {model.name} has been through rounds before. Round 0 starts from the weights "
            f"and masks that it has now, at density {pruning.density(masks):.2%}, and not from its "
            "first weights. To begin with those again, make the model anew, or keep them in "
            "first = masking.get_weights(model), masking.get_masks(model) (of lottery_tf.masking) "
            "and set them by masking.set_weights(model, *first) before each call.",
            stacklevel=stacklevel + 1,
        )


def _fingerprint(weights: Weights, masks: Masks) -> str:
    """Return a digest of masks and of the floating-point weights under them."""
    digest = hashlib.blake2b()
    arrays = [one for one in pruning.apply_masks(weights, masks).values() if one.dtype.kind == "f"]
    for array in (*arrays, *masks.values()):
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()
