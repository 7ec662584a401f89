"""Pruning thresholds against density (Fig. 6)."""

import dataclasses
from typing import ClassVar

from lottery_tf.analysis.measure import (
    BESIDE,
    Chart,
    Column,
    Findings,
    Picture,
    TableMeasure,
    usual,
)
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import Groups, as_groups, metrics_with
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rundir import RunDir

COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "threshold": Column("threshold", "{:.5f}", "largest |w| that was pruned after the round"),
}


def of_rounds(runs: RunDir | Groups) -> list[Row]:
    """Return rows of {run, round, density, threshold} of a run, or of {label: runs}.

    Several runs of a label are replicates: means, min and max.
    """
    names = [name for name in COLUMNS if name != "run"]

    def rows_of(run: RunDir) -> list[Row]:
        return [{name: row[name] for name in names} for row in metrics_with(run, *names)]

    return side_by_side(as_groups(runs), rows_of, ("round",))


@dataclasses.dataclass
class Thresholds(TableMeasure):
    """Pruning thresholds against density, of one run or of two beside one another (Fig. 6).

    python -m tools.thresholds --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    name = "thresholds"
    columns = COLUMNS
    beside = True
    other_help = BESIDE
    title = "Pruning thresholds"
    chart: ClassVar = Chart(
        "threshold", "pruning threshold: largest |w| removed after the round", by="run"
    )

    def measure(self, *_: object) -> list[Row]:
        return of_rounds(self.groups)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        picture = Picture(run.finished_rounds() - 1, "", self.chart.draw(value))
        return [Findings(self.name, {"": value}, {self.name: picture})]


MEASURE = Thresholds
