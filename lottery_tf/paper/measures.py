"""Measures what figures show of runs beyond their metrics, or takes it from the runs' caches.

NumPy only; a barrier, an instability or a stability that no cache holds imports TensorFlow.
"""

import dataclasses
import functools
import math
import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lottery_tf.analysis import barriers, distances, instability, paths, stability
from lottery_tf.analysis.cache import Cache, NotKnown
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.replicates import by_seed
from lottery_tf.analysis.runs import Computing, engine_of
from lottery_tf.plots import Row
from lottery_tf.pruning import Array
from lottery_tf.reports.verdicts import in_words
from lottery_tf.reports.weights import nearest
from lottery_tf.runs.rundir import RunDir

POINTS = {"barriers": 20, "instability": 30}  # of a path
NEAR = 1.3  # a round is at a density if they differ by a smaller factor
Rows = list[Row]
Asked = tuple[Sequence[RunDir], Sequence[int]]  # the runs of a group, and rounds of theirs


class Trained(NamedTuple):
    """A measure that trains what its cache does not hold."""

    of_rounds: Callable[..., Rows]  # returns its rows of some rounds of a run
    copies: int  # how many trainings a round takes


TRAINED = {
    "instability": Trained(
        functools.partial(instability.of_rounds, points=POINTS["instability"]), 1
    ),
    # the dense network, the ticket, and a random mask twice
    "stability": Trained(stability.of_masks, 4),
}


@dataclasses.dataclass(frozen=True)
class Measures:
    """Measures of runs."""

    draw_only: bool = False  # whether nothing is evaluated or trained, but listed in `left_out`
    computing: Computing = dataclasses.field(default_factory=dict)  # as runs.engine_of takes it
    stop_signal: Callable[[], int] = lambda: 0  # returns the number of the signal that came, or 0
    say: Callable[[str], None] = print  # tells what a training will cost, before it begins
    left_out: list[str] = dataclasses.field(default_factory=list)  # sentences about what is missing

    def distances(self, run: RunDir, metric: str) -> Array | None:
        """Return the matrix (rounds + 1, rounds + 1) of a run, start last; None of one round."""
        if not self._has_two_rounds(run, "distances"):
            return None
        return distances.matrices(run, None, [metric], _cache(run, "distances"))[metric]

    def barriers(self, runs: Sequence[RunDir]) -> tuple[Rows, Rows]:
        """Return barriers between successive rounds, and points of the paths, of each seed."""
        longer = [run for run in runs if self._has_two_rounds(run, "barriers")]
        if not longer:
            return [], []
        points = POINTS["barriers"]
        options = paths.options_of(longer[0], points=points)
        engine = functools.partial(engine_of, longer[0], **self.computing)
        evaluate, known, measured = paths.evaluator(engine, **options), [], []
        for run in longer:
            cache = _cache(run, "barriers", only_known=self.draw_only)
            try:
                tables = barriers.along_paths(run, evaluate=evaluate, cache=cache, points=points)
            except NotKnown:
                self._leave_out("barriers", run)
                continue
            self._tell_collapsed("barrier", run, tables[0], "to_round")
            known.append(tables)
            measured.append(run)
        of_points = [paths.of_their_paths(*of_run, barriers.BY) for of_run in known]
        return by_seed(measured, [rows for rows, _ in known]), by_seed(measured, of_points)

    def trained(self, name: str, asked: Sequence[Asked]) -> list[Rows]:
        """Return the rows of rounds of each group, of each seed."""
        runs = [(run, rounds) for of_group, rounds in asked for run in of_group]
        todo = [(run, left) for run, of in runs if (left := self._known(name, run, of)[1])]
        self._tell(name, todo)
        for run, left in todo:
            if self.draw_only:
                self._leave_out(name, run, left)
            else:  # all at once, for one engine
                how = {"stop_signal": self.stop_signal, "computing": self.computing}
                TRAINED[name].of_rounds(run, at_rounds=left, cache=_cache(run, name), **how)
        return [self._of_seeds(name, *of_group) for of_group in asked]

    def _of_seeds(self, name: str, runs: Sequence[RunDir], rounds: Sequence[int]) -> Rows:
        known = [self._known(name, run, rounds)[0] for run in runs]
        for run, rows in zip(runs, known, strict=True):
            self._tell_collapsed(name, run, rows, "round")
        ends = "_min", "_max"  # over pairs of copies, of which there is one
        whole = [[{n: row[n] for n in row if not n.endswith(ends)} for row in of] for of in known]
        return by_seed(runs, whole)

    def _known(self, name: str, run: RunDir, rounds: Sequence[int]) -> tuple[Rows, list[int]]:
        """Return (rows of the rounds that the cache holds, the other finished rounds)."""
        rows: Rows = []
        left: list[int] = []
        cache = _cache(run, name, only_known=True)
        for round in (number for number in rounds if number < run.finished_rounds()):
            try:
                rows += TRAINED[name].of_rounds(run, at_rounds=[round], cache=cache)
            except NotKnown:
                left.append(round)
        return rows, left

    def _has_two_rounds(self, run: RunDir, measure: str) -> bool:
        if run.finished_rounds() < 2:
            self.left_out.append(f"{run.path} has one finished round: no {measure}.")
        return run.finished_rounds() >= 2

    def _tell_collapsed(self, name: str, run: RunDir, rows: Rows, column: str) -> None:
        """Name the rounds whose networks have collapsed: their measure is meaningless."""
        if collapsed := {row[column] for row in rows if row["collapsed"]}:
            self.left_out.append(
                f"{run.path}: networks have collapsed, so the {name} of {in_words(collapsed)} is "
                "meaningless. It is left out of the means; see the column collapsed."
            )

    def _tell(self, name: str, todo: Sequence[tuple[RunDir, Sequence[int]]]) -> None:
        """Say what the trainings that are left cost, by the seconds that their rounds took."""
        if self.draw_only or not todo:
            return
        copies = TRAINED[name].copies
        times = [run.metrics()[round].get("seconds", math.nan) for run, of in todo for round in of]
        seconds = copies * sum(times)
        long = f", about {seconds / 60:.0f} minutes" if math.isfinite(seconds) else ""
        self.say(
            f"{name}: {copies * len(times)} trainings in {len(todo)} runs{long}, "
            "unless some are there already. Ctrl-C stops, the same command goes on; --draw_only "
            "leaves them out."
        )

    def _leave_out(self, name: str, run: RunDir, rounds: Sequence[int] = ()) -> None:
        command = ["python", "-m", f"tools.{name}", f"--run_dir={run.path}"]
        command += [f"--at_rounds={','.join(map(str, rounds))}"] * bool(rounds)
        self.left_out.append(f"Not computed, with --draw_only: {shlex.join(command)}")


def _cache(run: RunDir, name: str, *, only_known: bool = False) -> Cache:
    """Return the cache that the tool of the same name keeps in a run."""
    return Cache(Output().of(run, apart=False) / f"{name}.cache.json", only_known=only_known)


def round_at(run: RunDir, density: float) -> int | None:
    """Return the finished round nearest to a density, the denser of two; None if none is near."""
    row = nearest(run.metrics(), density, within=NEAR)
    return row["round"] if row else None
