"""The simple noise scale of McCandlish et al. 2018, B = tr(Sigma)/|G|^2.

G is the gradient of the mean cross-entropy over the training data, Sigma the covariance of the
gradients of single examples. A batch far below B averages too little noise away, one far above B
hardly helps. Both are estimated without bias from two batch sizes (their appendix A.1): the mean
squared norm of the gradients of batches of 50, and that of the gradient of all of them together,
of the first training examples that the first epoch visits. With BatchNorm the batches are as large
as the run's, and normalised by themselves. Gradients are by the weights alive and all other
trainable variables, without augmentation, weight decay or repulsion.

It is measured where a round starts, where it ends and, if asked for, after some of its updates,
which are trained again in memory. What the cache does not hold imports TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.measure import Chart, Column, Needs, TableMeasure, usual
from lottery_tf.analysis.retraining import Retrainings
from lottery_tf.analysis.runs import (
    Computing,
    Rounds,
    check_at_least,
    engine_of,
    metrics_with,
    select_rounds,
)
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.runs.checkpoints import Progress
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:  # it imports TensorFlow
    from lottery_tf.analysis.gradient_noise import GradientNoise

EXAMPLES = 10_000
START, END = "start", "end"
MEASURED = ("gradient_squared", "variance", "noise_scale")
COLUMNS: Columns = {
    **usual("round", "density"),
    "at": Column("at", "{}", "place in the round: start, end, or after a step or epoch"),
    "gradient_squared": Column("|G|^2", "{:.3g}", "squared norm of the gradient of the mean loss"),
    "variance": Column("tr(Sigma)", "{:.3g}", "summed variance of the gradients of examples"),
    "noise_scale": Column(
        "noise scale", "{:,.0f}", "variance over the squared norm of the gradient", "examples"
    ),
    "noise_scale_min": Column("min", "{:,.0f}", "least of the replicates"),
    "noise_scale_max": Column("max", "{:,.0f}", "largest of the replicates"),
}


def of_rounds(
    run: RunDir,
    *,
    at_rounds: Rounds = (),
    at_steps: Sequence[str] = (START, END),
    examples: int = EXAMPLES,
    cache: Cache | None = None,
    computing: Computing | None = None,
) -> list[Row]:
    """Return rows of {round, density, at} and MEASURED of a run; options as the flags."""
    check_at_least(2, examples=examples)
    check_steps(at_steps)
    retrainings = Retrainings(run, computing=computing)

    @functools.cache
    def noise() -> "GradientNoise":
        trains = set(at_steps) - {START, END}  # Retrainings refuses some runs
        engine = retrainings.engine if trains else engine_of(run, **(computing or {}))
        from lottery_tf.analysis.gradient_noise import GradientNoise

        return GradientNoise(engine, examples)

    def compute(of: FinishedRound) -> list[Row]:
        masks = of.masks()
        ends = {START: run.initial(of.round), END: of.final()}
        found = {at: noise().of(ends[at], masks) for at in at_steps if at in ends}
        if steps := [text for text in at_steps if text not in ends]:
            found |= _after_steps(retrainings, of, steps, noise())
        return [{"at": place_of(at)} | found[at] for at in at_steps]

    cache, rows = cache or Cache(), []
    metrics = metrics_with(run, "density")
    for round in console.progress(select_rounds(run, at_rounds), "rounds"):
        of, options = FinishedRound(run.path, round), ["noise scale", examples, *at_steps]
        fits = rows_of(*MEASURED, at=[*map(place_of, at_steps)])
        found = cache.reuse([of], options, compute, of, fits=fits)
        rows += [metrics[round] | row for row in found]
    return rows


def place_of(text: str) -> str:
    """Return the name of a place in a round, from what --at_steps says."""
    return f"step {text}" if text.isdigit() else text


def check_steps(at_steps: Sequence[str]) -> None:
    """Raise InputError unless --at_steps names places in a round, each once."""
    for text in at_steps:
        if text not in (START, END):
            parse_step("--at_steps", text, 1)
    if not at_steps or len(set(at_steps)) != len(at_steps):
        raise InputError(
            "--at_steps: expected start, end, steps as 100 or epochs as 1ep, each once. Received: "
            f"{','.join(at_steps) or 'none'}"
        )


def _after_steps(
    retrainings: Retrainings, of: FinishedRound, texts: Sequence[str], noise: "GradientNoise"
) -> dict[str, Row]:
    """Return {text: MEASURED} after some steps of a round, trained again with its own noise."""
    engine, masks = retrainings.engine, of.masks()
    training = retrainings.training(masks, of.round, engine.config.data_seed)
    steps = {
        text: training.first + parse_step("--at_steps", text, engine.steps_per_epoch)
        for text in texts
    }
    last, found = max(steps.values()), {}
    if last > (training.last or engine.steps):
        raise InputError(
            f"--at_steps: expected steps of a round's training, which has "
            f"{(training.last or engine.steps) - training.first}. Received: {','.join(texts)}"
        )

    def measure(progress: Progress) -> None:
        for text, step in steps.items():
            if step == progress.step:
                found[text] = noise.of(masking.get_weights(engine.network), masks)

    from lottery_tf import masking

    training = dataclasses.replace(training, last=last)
    engine.train(training, on_piece=measure, halts=list(steps.values()))
    return found


@dataclasses.dataclass
class NoiseScale(TableMeasure):
    """The gradient noise scale of a run (McCandlish et al. 2018), along the training of its rounds.

    python -m tools.noise_scale --run_dir=runs/lenet --at_steps=start,100,1ep,end
    """

    at_rounds: Rounds = flag((), "Finished rounds to measure, with commas. Default: all.")
    at_steps: Sequence[str] = flag(
        (START, END),
        "Where in a round: start, end, and updates as 100 or 1ep, up to which it is trained again.",
    )
    examples: int = flag(
        EXAMPLES,
        "Training examples whose gradients are taken, those that the first epoch visits first.",
    )

    name = "noise_scale"
    needs = Needs.ENGINE
    columns = COLUMNS
    by = ("round", "at")
    title = "Gradient noise scale"
    csv_files: ClassVar = {"noise_scale.csv": "one row for each round and place in its training"}
    picture_tags: ClassVar = {
        "noise_scale": ("noise_scale.png", "gradient noise scale against density"),
    }
    chart: ClassVar = Chart(
        "noise_scale",
        "gradient noise scale (examples)",
        caption="Gradient noise scale at the start of each round, and at its end",
        by="at",
        logarithmic=True,
    )

    def prepare(self) -> None:
        """Check the rounds and steps before the first is measured."""
        check_steps(self.at_steps)
        for run in self.runs:
            select_rounds(run, self.at_rounds)

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_rounds(run, cache=cache, computing=self.computing, **self.asked)


MEASURE = NoiseScale
