"""What is added to the method is one function and one line of a table: a toy of each."""

import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf import analysis, imp, pruning
from lottery_tf.pruning import criteria, resets
from lottery_tf.reports import run_report
from lottery_tf.rundir import RunDir
from lottery_tf.runs.files import parse_csv
from tests.conftest import ROOT
from tests.made_runs import make_run


@pytest.mark.ci
def test_a_toy_reset_and_a_toy_criterion_run_with_no_other_change(config, monkeypatch):
    def on_trained_weights(sources, masks, round):
        return pruning.apply_masks(sources.trained(), masks), 10

    def squared_movement(trained, initial):
        return (trained - initial) ** 2

    monkeypatch.setitem(resets.RESETS, "on_trained_weights", on_trained_weights)
    monkeypatch.setitem(criteria.CRITERIA, "squared_movement", squared_movement)
    # The choices of a flag are those of its table when the flags are defined.
    config = config(rounds=3, epochs=1)
    object.__setattr__(config, "reset", "on_trained_weights")
    object.__setattr__(config, "criterion", "squared_movement")
    imp.main(config)
    run = RunDir(config.run_dir)
    for round in (1, 2):
        before = run.final(round - 1)
        for path, mask in run.masks(round).items():
            assert np.array_equal(run.initial(round)[path], np.where(mask, before[path], 0))
        moved = {p: np.abs(before[p] - run.initial(round - 1)[p]) for p in run.masks(round)}
        removed = np.concatenate(
            [moved[p][run.masks(round - 1)[p] & ~mask] for p, mask in run.masks(round).items()]
        )
        kept = np.concatenate([moved[p][mask] for p, mask in run.masks(round).items()])
        assert removed.max() <= kept.min()


@pytest.mark.ci
def test_a_round_continues_the_schedule_at_the_step_that_the_reset_names(config, monkeypatch):
    steps = []

    class Recorded(imp.streams.Noise):
        def dropout(self, first, layer):
            steps.append((self.round, first))
            return super().dropout(first, layer)

    monkeypatch.setattr(imp.streams, "Noise", Recorded)
    monkeypatch.setitem(resets.RESETS, "init", lambda s, m, r: (resets.init(s, m, r)[0], 7 * r))
    imp.main(config(model="tests.networks:dropout", rounds=3, epochs=1))
    assert steps == [(0, 0), (1, 7), (2, 14)]


# A measure's file, and its line in the registry.
MAGNITUDE = '''
"""How large the surviving weights are."""

import dataclasses

import numpy as np

from lottery_tf.analysis.measure import Chart, Column, TableMeasure, usual
from lottery_tf.config.fields import flag


@dataclasses.dataclass
class Magnitude(TableMeasure):
    """The mean magnitude of the surviving weights, to a power.

    python -m tools magnitude --run_dir=runs/lenet
    """

    power: float = flag(1.0, "Power of each |w|.")

    name = "magnitude"
    title = "Mean magnitude"
    columns = usual("round", "density") | {
        "magnitude": Column("mean |w|", "{:.4f}", "mean |w| of the weights alive"),
    }
    chart = Chart("magnitude", "mean |w|")

    def measure(self, run, cache):
        """Return rows of {round, density, magnitude}."""
        return [
            {"round": row["round"], "density": row["density"]} | {"magnitude": self.mean(run, row)}
            for row in run.metrics()
        ]

    def mean(self, run, row):
        """Return the mean over all kernels of a round."""
        weights, masks = run.final(row["round"]), run.masks(row["round"])
        alive = np.concatenate([weights[path][mask] for path, mask in masks.items()])
        return float((np.abs(alive) ** self.power).mean())

    @classmethod
    def verdict(cls, rows):
        """Return whether the mean grows."""
        grows = rows[-1]["magnitude"] > rows[0]["magnitude"]
        return "The survivors grow." if grows else "The survivors do not grow."


MEASURE = Magnitude
'''
LINE = {"magnitude": ("mean |w| of the survivors", "of a test")}


def test_a_toy_measure_has_command_csv_tensorboard_report_and_documentation(
    config, tmp_path, monkeypatch
):
    (tmp_path / "measures").mkdir()
    (tmp_path / "measures" / "magnitude.py").write_text(MAGNITUDE)
    registered = (
        "from lottery_tf import analysis; import sys, tools; "
        f"analysis.__path__.append({str(tmp_path / 'measures')!r}); "
        f"analysis.MEASURES |= {LINE!r}; sys.argv[0] = 'lottery'; tools.main()"
    )

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-c", registered, *arguments],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip

    run = make_run(config(), rounds=3)
    assert "mean |w| of the survivors" in command("--help").stdout
    assert "--power" in command("magnitude", "--help").stdout
    result = command("magnitude", f"--run_dir={run.path}", "--power=2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "mean |w|" in result.stdout
    alive = np.concatenate([run.final(2)[path][mask] for path, mask in run.masks(2).items()])
    expected = pytest.approx((alive.astype(float) ** 2).mean())
    table = parse_csv((run.path / "analysis" / "magnitude.csv").read_bytes())
    assert (len(table), table[2]["magnitude"]) == (3, expected)
    picture = (run.path / "analysis" / "magnitude.png").read_bytes()
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard"), {"tensors": 0})
    events.Reload()
    tag = "magnitude/magnitude"
    *_, last = events.Tensors(tag)
    assert (last.step, last.tensor_proto.float_val[0]) == (2, expected)
    assert events.Tensors("magnitude")[0].tensor_proto.string_val[2] == picture
    assert events.SummaryMetadata(tag).summary_description == "mean |w| of the weights alive"

    monkeypatch.setattr(analysis, "__path__", [*analysis.__path__, str(tmp_path / "measures")])
    monkeypatch.setitem(analysis.MEASURES, "magnitude", LINE["magnitude"])
    assert "| `magnitude` | mean |w| of the survivors | of a test |" in analysis.documentation()
    path, _ = run_report.report([str(run.path)])
    page = path.read_text()
    assert "Mean magnitude" in page
    assert "The survivors" in page
    assert f"{table[2]['magnitude']:.4f}" in page
    sys.modules.pop("lottery_tf.analysis.magnitude")
