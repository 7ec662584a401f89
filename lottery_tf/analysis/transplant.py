"""The mask of one run on the initialization of another, its units permuted or not.

Four masks of one density are trained from the initialization of `run`, or what it rewinds to:

    own          its own: the ticket
    permuted     that of `other`, its units permuted as those of other's dense solution to lie
                 nearest to run's (Adnan et al. 2025)
    unpermuted   that of `other` as it is
    random       a random one of run's density in each layer

What the cache does not hold is trained, which imports TensorFlow.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lottery_tf.analysis import retraining, runs
from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.masks import jaccard
from lottery_tf.analysis.measure import Chart, Column, Findings, Picture, Table, curve, usual
from lottery_tf.analysis.replicates import means
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Masks, Weights, streams
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

if TYPE_CHECKING:  # it imports Keras
    from lottery_tf.analysis.alignment import Symmetries

MASKS = ("own", "permuted", "unpermuted", "random")
COLUMNS: Columns = {
    **usual("round", "density", "mask"),
    "overlap": Column("overlap with own", "{:.3f}", "Jaccard overlap with the run's own mask"),
    **usual("test_accuracy", "test_accuracy_min", "test_accuracy_max"),
}


def masks_of(
    symmetries: "Symmetries",
    dense: tuple[Weights, Weights],
    own: Masks,
    others: Masks,
    generator: np.random.Generator,
) -> Mapping[str, Masks]:
    """Return {name of MASKS: {kernel path: bool array}}, from those of a run and of the other.

    `symmetries` is what alignment.find gives, `dense` the dense solutions of the run and the other.
    """
    from lottery_tf.analysis.alignment import match, permute

    permuted = permute(symmetries, others, match(symmetries, *dense))
    masks = (own, permuted, others, retraining.random_masks(own, generator))
    return dict(zip(MASKS, masks, strict=True))


def of_masks(
    run: RunDir,
    other: RunDir,
    *,
    at_rounds: runs.Rounds = (),
    replicates: int = 1,
    cache: Cache | None = None,
    **how: Any,
) -> list[Row]:
    """Return rows of {round, density, replicate, mask, overlap, test_accuracy}.

    Args:
        run: whose initialization is trained.
        other: a run from another initialization, whose masks are put onto it.
        at_rounds: of both; by default round 10, or the last of a shorter run.
        replicates: how often, with another data seed and random mask each.
        **how: computing and stop_signal.
    """
    check(run, other, replicates)
    retrainings, cache = retraining.Retrainings(run, **how), cache or Cache()
    fits = rows_of("round", "density", "overlap", "test_accuracy", mask=MASKS)
    rows: list[Row] = []
    for round in runs.select_common_rounds([run, other], at_rounds, usual=retraining.USUAL_ROUNDS):
        of = [FinishedRound(which.path, r) for which in (run, other) for r in (0, round)]
        for replicate in range(replicates):
            options, arguments = ["transplant", replicate], (retrainings, of, replicate)
            rows += cache.reuse(of, options, _train, *arguments, fits=fits)
    return rows


def check(run: RunDir, other: RunDir, replicates: int) -> None:
    """Raise InputError if a run's initialization cannot be trained under another's masks."""
    runs.check_at_least(1, replicates=replicates)
    runs.check_same_experiment([run, other])
    retraining.check_resets(run)
    seeds = [which.config()["init_seed"] for which in (run, other)]
    if seeds[0] == seeds[1]:
        raise InputError(
            f"--other_run: expected a run from another initialization than {run.path}. Received: "
            f"{other.path}, also of --init_seed={seeds[0]}"
        )


def _train(
    retrainings: retraining.Retrainings, rounds: Sequence[FinishedRound], replicate: int
) -> list[Row]:
    """Return the rows of a replicate; rounds are the dense and the sparse one of both runs."""
    dense, sparse, other_dense, other_sparse = rounds
    round, engine = sparse.round, retrainings.engine  # it imports TensorFlow, without its messages
    from lottery_tf.analysis import alignment

    config = engine.config
    generator = streams.random_masks(config.init_seed, round, replicate)
    solutions = dense.final(), other_dense.final()
    found = alignment.find(engine.network)
    masks = masks_of(found, solutions, sparse.masks(), other_sparse.masks(), generator)
    rows: list[Row] = []
    seed = config.data_seed + replicate
    for name, of in masks.items():
        label = f"random_{replicate}" if name == "random" else f"{other_sparse.run.name}_{name}"
        _, history = (
            retrainings.of_round(round, seed)
            if name == "own"
            else retrainings.under(of, round, seed, f"round_{round:02d}_{label}")
        )
        row = {"round": round, "density": density(of), "replicate": replicate, "mask": name}
        overlap = float(jaccard([of], [masks["own"]])[0, 0])
        row |= {"overlap": overlap, "test_accuracy": history[-1]["test_accuracy"]}
        rows.append(row)
    return rows


@dataclasses.dataclass
class Transplant(retraining.MaskMeasure):
    """Trains one run's initialization under another's masks, permuted or not (Adnan et al. 2025).

    python -m tools.transplant --run_dir=runs/lenet_seed=1 --other_run=runs/lenet --at_rounds=10,15

    It trains within the run of --run_dir. Run it again to resume.
    """

    replicates: int = flag(
        1, "Number of repeats, each with another data seed and another random mask."
    )

    name = "transplant"
    columns = COLUMNS
    by = ("round", "mask")
    run_help = (
        "Run whose initialization is trained. Several runs, separated by commas, are replicates."
    )
    other_help = "Run from another initialization, whose masks are transplanted. Default: none."
    needed = ("--other_run=ANOTHER_RUN",)
    title = "Masks of another run"
    csv_files: ClassVar = {"transplant.csv": "one row for each round, replicate and mask"}
    csv_columns: ClassVar = {"replicate": ("", "number of the repetition, from 0")}
    picture_tags: ClassVar = {
        "transplant/test_accuracy": ("transplant.png", "test accuracy of each mask"),
    }
    chart: ClassVar = Chart(
        "test_accuracy",
        "test accuracy (%)",
        percent=True,
        caption="Test accuracy on the run's own start, by mask",
        by="mask",
    )

    def prepare(self) -> None:
        """Check all runs before the first is trained."""
        if not self.other:
            raise InputError("--other_run: expected the run whose masks are used. Received none.")
        for run in self.runs:
            check(run, self.other, self.replicates)
        super().prepare()

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        assert self.other  # `prepare` asks for it
        return of_masks(run, self.other, cache=cache, **self.how, **self.asked)

    def combine(self, values: list[list[Row]]) -> list[Row]:
        return [row for rows in values for row in rows]

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, and the accuracy of each mask, means over replicates."""
        averaged, tag = means(value, self.by), "transplant/test_accuracy"
        curves = self.chart.curves(averaged).items()
        logged = {f"{tag} {mask}": curve(of, "test_accuracy") for mask, of in curves}
        picture = Picture(self.chart.draw(averaged, title), "", averaged[-1]["round"])
        return [Findings(self.name, {"": value}, {tag: picture}, logged)]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        return [(means(value, self.by), self.columns)]


MEASURE = Transplant
