"""Pruning thresholds against density (Fig. 6)."""

import dataclasses
from typing import ClassVar

from lottery_tf.analysis.measure import Chart, Column, Findings, TableBeside, usual
from lottery_tf.analysis.replicates import side_by_side
from lottery_tf.analysis.runs import Groups, metrics_with
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rundir import RunDir

COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "threshold": Column("threshold", "{:.5f}", "largest |w| that was pruned after the round"),
}


def of_rounds(runs: RunDir | Groups) -> list[Row]:
    """Return rows of {run, round, density, threshold} of a run, or of {label: runs}."""
    return side_by_side(runs, lambda run: metrics_with(run, "density", "threshold"))


@dataclasses.dataclass
class Thresholds(TableBeside):
    """Shows pruning thresholds against density, of one run or of two side by side (Fig. 6).

    python -m tools.thresholds --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    name = "thresholds"
    columns = COLUMNS
    title = "Pruning thresholds"
    csv_files: ClassVar = {"thresholds.csv": "one row for each run and round"}
    picture_tags: ClassVar = {"thresholds": ("thresholds.png", "thresholds against density")}
    chart: ClassVar = Chart(
        "threshold", "pruning threshold: largest |w| removed after the round", by="run"
    )

    def measure(self, *_: object) -> list[Row]:
        return of_rounds(self.groups)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        (usual,) = super().findings(run, value, "")
        return [usual._replace(curves={})]


MEASURE = Thresholds
