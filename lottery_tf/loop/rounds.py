"""`rounds`: iterative magnitude pruning around the user's own training."""

import os
from collections.abc import Iterator, Mapping, Sequence

import keras

from lottery_tf import masking
from lottery_tf.loop import checks, starting
from lottery_tf.loop.keeping import Keeper, first_density_in
from lottery_tf.loop.plan import Plan
from lottery_tf.loop.pruning import Data
from lottery_tf.loop.samples import Sample
from lottery_tf.loop.showing import Table
from lottery_tf.loop.turns import Round, Turns
from lottery_tf.masking import keras_generators, optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer
from lottery_tf.pruning.criteria import Criterion


def rounds(model: keras.Model, rounds: int, fraction: float | None = None, *,
           densities: Sequence[float] = (), target_density: float | None = None,
           reset: str = "init", rewind_to: int = 0, seed: int = 0,
           criterion: Criterion = "magnitude", data: Data = None,
           iterations: int | None = None, scope: str = "global",
           layer_fractions: Mapping[str, float] | None = None, keep_dense: Sequence[str] = (),
           min_layer_weights: int = 0, optimizers: Sequence[Optimizer] = (),
           directory: str | os.PathLike | None = None, verbose: int = 1
           ) -> Iterator[Round]:  # fmt: skip
    """Iterative magnitude pruning around the user's own training; yields each Round.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3, callbacks=round.callbacks)

    Each round starts from reset weights under the next masks with fresh optimizers, the first from
    what the model has: call it again on a trained model, and it goes on from there, with a warning.
    The rounds end early, with a warning, where nothing is left to prune.

    Every optimizer that the model or a layer of it holds begins again in each round: steps, slots
    and learning rate. Round.optimizers names them.

    Args:
        model: as `masked` returns it, compiled or not. It need not have a call(), if its masked
            parts are built.
        rounds: how many.
        fraction, densities, target_density: one of them. Part of the survivors that is pruned after
            each round but the last; the densities of the rounds after the first; or that of the
            last, to which the density falls by the same part in each.
        reset: a key of lottery_tf.pruning.resets.RESETS. "rewind" needs `rewind_to`, and
            round.callbacks in the `fit` of round 0. Where a schedule of the rate goes on
            ("rewind", "lr_rewind", "finetune") is up to your `fit`: round.first_step says where.
        rewind_to: step, a batch of round 0.
        seed: of fresh initializations and of what is drawn by chance.
        criterion, data, iterations, scope, layer_fractions, keep_dense, min_layer_weights: as in
            `prune`.
        optimizers: those of a training loop of your own that the model does not hold.
        directory: a run directory that keeps each finished round, and continues after it when the
            same is called again; with round.callbacks in `fit`, inside a round at its last epoch.
        verbose: 0 prints nothing, 1 a line about the start and a row for each finished round.

    Raises:
        InputError: at the call, a value out of bounds, or something that a later round needs and
            that cannot be had; in round 1, a rewind point that was not kept.
    """
    sample = None if data is None else Sample(data)
    where = checks.where(scope, layer_fractions, keep_dense, min_layer_weights)
    plan = Plan(model, rounds, fraction, densities, target_density, reset, rewind_to, seed,
                criterion, sample, iterations, where, first_density_in(directory))  # fmt: skip
    checks.whole_number(0, verbose=int(verbose) if isinstance(verbose, bool) else verbose)
    optimizer_state.check(optimizers)
    with keras_generators.kept():
        amounts = plan.check()
        keeper = None if directory is None else Keeper(directory, plan)
        fresh = starting.FreshOptimizers(model, optimizers)
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    masking.compile_with_masks(model)
    if keeper is None or not keeper.continues():
        starting.warn_if_trained(model, stacklevel=2)
    return Turns(plan, amounts, fresh, keeper, Table(verbose)).all()
