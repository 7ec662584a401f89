"""Display failures (the terminal, TensorBoard) never stop a run and lose no round."""

import errno
import os
import pathlib
import re
import resource
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lottery_tf import imp
from lottery_tf.plots import columns, counting, events
from lottery_tf.plots.summaries import Summaries
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

TINY = {"model": "tests.networks:linear", "epochs": 1, "rounds": 3, "jit_compile": "off"}
SPLITS = ("train", "test")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read(path):
    found = event_accumulator.EventAccumulator(str(path))
    found.Reload()
    return found


def rounds_of(path):
    return [event.step for event in read(path / "tensorboard").Tensors("round/density (%)")]


def refuse(*_, **__):
    raise FULL


@pytest.mark.ci
@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("lottery_tf.plots.events.append", "TensorBoard's files"),
        ("lottery_tf.plots.counting.histogram", "TensorBoard's files"),
        ("lottery_tf.terminal.console.print_row", "the terminal"),
        ("lottery_tf.terminal.console.ProgressBar", "the terminal"),
        ("lottery_tf.terminal.console.ProgressBar.update", "the terminal"),
    ],
)
def test_what_cannot_be_shown_is_said_once_and_costs_no_round(config, monkeypatch, broken, what):
    monkeypatch.setattr(broken, refuse)
    assert imp.main(config(**TINY)) == 0
    run = RunDir(config().run_dir)
    assert run.finished_rounds() == 3
    log = (run.path / "log.txt").read_text()
    assert log.count(f"Cannot write to {what}: ") == log.count("Cannot write") == 1
    assert os.strerror(errno.ENOSPC) in log


def test_a_line_that_cannot_be_said_is_in_the_log(config, monkeypatch):
    monkeypatch.setattr(console, "say", refuse)
    monkeypatch.setattr(events, "append", refuse)
    assert imp.main(config(**TINY)) == 0
    assert "Cannot write" in (pathlib.Path(config().run_dir) / "log.txt").read_text()


@pytest.mark.ci
def test_a_round_is_saved_before_it_is_shown(config, monkeypatch):
    finished = []

    def look(self, metrics, *_):
        finished.append(RunDir(config().run_dir).finished_rounds() - metrics["round"])

    monkeypatch.setattr(Summaries, "finish_round", look)
    imp.main(config(**TINY))
    assert finished == [1, 1, 1]


@pytest.mark.ci
def test_summaries_that_a_kill_or_a_full_disk_prevented_come_at_the_next_start(config, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Summaries, "finish_round", refuse)
        imp.main(config(**TINY | {"rounds": 2}))
    run = RunDir(config().run_dir)
    assert not list(run.path.glob("tensorboard/events.*"))
    imp.main(config(**TINY))
    assert rounds_of(run.path) == [0, 1, 2]
    assert "surviving weights/all" in read(run.path / "tensorboard").Tags()["tensors"]


def test_a_histogram_counts_the_survivors_as_tensorflow_did(tmp_path):
    weights = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    mask = np.arange(1200).reshape(30, 40) % 3 > 0
    final, masks = {"a": weights, "b": np.ones(2, np.float32)}, {"a": mask, "b": np.ones(2, bool)}
    Summaries(tmp_path).finish_round({"round": 4, "density": 0.5}, final, masks)
    writer = tf.summary.create_file_writer(str(tmp_path / "expected"))
    with writer.as_default(step=4):
        tf.summary.histogram("a", weights[mask], buckets=60)
        tf.summary.histogram("b", final["b"], buckets=60)
    writer.close()
    ours, theirs = read(tmp_path / "tensorboard"), read(tmp_path / "expected")
    for path in ("a", "b"):
        (event,) = ours.Tensors(f"surviving weights/{path}")
        found = tf.make_ndarray(event.tensor_proto)
        expected = tf.make_ndarray(theirs.Tensors(path)[0].tensor_proto)
        assert found[:, 2].sum() == expected[:, 2].sum() == masks[path].sum()
        if path == "a":
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    metadata = ours.SummaryMetadata("surviving weights/a")
    assert metadata.plugin_data == theirs.SummaryMetadata("a").plugin_data
    (event,) = ours.Tensors("surviving weights/all")
    assert tf.make_ndarray(event.tensor_proto)[:, 2].sum() == mask.sum() + 2


def test_a_layer_without_weights_has_an_empty_histogram(tmp_path):
    final, masks = {"a": np.zeros(5, np.float32)}, {"a": np.zeros(5, bool)}
    Summaries(tmp_path).finish_round({"round": 0, "density": 0.0}, final, masks)
    (event,) = read(tmp_path / "tensorboard").Tensors("surviving weights/a")
    assert tf.make_ndarray(event.tensor_proto).shape == (0, 3)


def test_histograms_take_no_memory_for_each_weight(tmp_path):
    size = 8_000_000
    final, masks = {"a": np.arange(size, dtype=np.float32)}, {"a": np.ones(size, bool)}
    tracemalloc.start()
    try:
        Summaries(tmp_path).finish_round({"round": 0, "density": 1.0}, final, masks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * size  # bytes


def test_blocks_are_counted_as_a_whole():
    values = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    blocks = [values[:1], values[1:400], values[:0], values[400:]]
    counts, edges = counting.histogram(lambda: blocks, 7)
    np.testing.assert_array_equal(counts, np.histogram(values.astype(float), edges)[0])
    found = counting.describe(lambda: blocks)
    assert found == pytest.approx(
        {
            "size": 1000,
            "mean_magnitude": np.abs(values.astype(float)).mean(),
            "deviation": values.astype(float).std(),
            "largest": np.abs(values).max(),
        }
    )
    assert set(counting.describe(lambda: []).values()) == {0}


def test_events_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    events.append(path, [(0, events.scalar("a", 1.0))])
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            events.append(path, [(1, events.scalar("a", 2.0))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size
    events.append(path, [(2, events.scalar("a", 3.0))])
    assert [event.step for event in read(tmp_path).Tensors("a")] == [0, 2]
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        events.append(pathlib.Path("/dev/full"), [(0, events.scalar("a", 1.0))])


def test_training_and_test_are_in_one_chart_of_tensorboard(tmp_path):
    summaries = Summaries(tmp_path)
    for round in range(2):
        summaries.finish_round({"round": round, "density": 1.0, "test_accuracy": 0.5}, {}, {})
    (event,) = read(tmp_path / "tensorboard").Tensors("custom_scalars__config__")
    page = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in page.category] == ["by round", "by epoch"]
    shown = [tag for category in page.category for tag in category.chart[0].multiline.tag]
    known = [f"{of} percent/{split}_accuracy" for of in ("round", "epoch") for split in SPLITS]
    assert [[bool(re.match(tag, name)) for name in known] for tag in shown] == np.eye(4).tolist()
    assert "(" not in "".join(shown)  # TensorBoard shows an empty chart of such a tag
    values = read(tmp_path / "tensorboard").Tensors("round percent/test_accuracy")
    assert [event.tensor_proto.float_val[0] for event in values] == [50, 50]


def test_tensorboard_says_what_its_curves_are(tmp_path):
    summaries = Summaries(tmp_path)
    summaries.start_round(0, 0)
    summaries.add_epoch({"epoch": 1, "test_accuracy": 0.5})
    summaries.finish_round({"round": 0, "density": 1.0, "test_accuracy": 0.5}, {}, {})
    by_round, by_epoch = read(tmp_path / "tensorboard"), read(tmp_path / "tensorboard" / "epochs")
    for found, group, column in (
        (by_round, "round", "density"),
        (by_round, "round", "test_accuracy"),
        (by_epoch, "epoch", "test_accuracy"),
    ):
        told = found.SummaryMetadata(f"{group}/{column} (%)").summary_description
        assert told == columns.about(group, column)
    told = by_round.SummaryMetadata("round/collapsed").summary_description
    assert told == columns.TAGS["round/collapsed"]
