"""--help of every command."""

import dataclasses
import re
import subprocess
import sys

import pytest

from lottery_tf.config import Config
from tests.conftest import ROOT

OUTPUT = {"run_dir", "out_dir", "pdf"}
COMPUTING = {"data_dir", "strategy", "jit_compile"}
EXPERIMENT = {field.name for field in dataclasses.fields(Config)}
FLAGS = {
    "lottery_tf.imp": EXPERIMENT,
    "tools.barriers": OUTPUT | COMPUTING | {
        "other_run", "points", "split", "bn_stats", "pairs", "align", "at_rounds"},
    "tools.benchmark": EXPERIMENT | {
        "what", "steps", "images", "repeats", "csv", "out_dir", "round_overhead"},
    "tools.classes": OUTPUT | COMPUTING,
    "tools.curvature": OUTPUT | COMPUTING | {"other_run", "labels", "at_rounds", "examples"},
    "tools.cyclic": OUTPUT | COMPUTING | {"at_rounds", "cycles", "once_from"},
    "tools.distances": OUTPUT | {"metric", "other_run", "align", "data_dir"},
    "tools.export": {
        "run_dir", "data_dir", "out", "round", "tolerance", "model", "inputs", "format", "compact",
        "sparse_matmul", "quantize", "dense", "batch_size", "examples", "overwrite", "info", "card",
        "license", "intended_use", "date", "time"},
    "tools.figures": OUTPUT | COMPUTING | {
        "other_run", "labels", "out", "title", "figure", "runs", "study", "draw_only", "dpi"},
    "tools.histograms": OUTPUT | {"other_run", "labels", "at_rounds", "bins"},
    "tools.instability": OUTPUT | COMPUTING | {
        "at_rounds", "copies", "start", "noise", "points", "split", "bn_stats"},
    "tools.learning": OUTPUT | {"other_run", "labels"},
    "tools.make_digits": {"data_dir"},
    "tools.make_reference": {"out_dir"},
    "tools.masks": OUTPUT | {"other_run", "data_dir"},
    "tools.noise_scale": OUTPUT | COMPUTING | {"at_rounds", "at_steps", "examples"},
    "tools.pixels": OUTPUT | {"other_run", "labels", "at_rounds", "image_shape"},
    "tools.predictions": OUTPUT | COMPUTING | {"other_run"},
    "tools.prepare_data": {
        "dataset", "source", "raw_dir", "name", "image_key", "label_key", "skip_bad", "data_dir",
        "overwrite", "shrink", "white_level"},
    "tools.report": {"run_dir", "runs", "out"},
    "tools.scaling": {
        "gpus", "batch_sizes", "gflop", "parameters", "tflops", "gpus_per_host", "inside_gbytes",
        "between_gbytes", "batch_norms", "inside_us", "between_us"},
    "tools.stability": OUTPUT | COMPUTING | {"at_rounds", "replicates", "start"},
    "tools.successive": {"run_dir", "out_dir", "csv"},
    "tools.sweep": EXPERIMENT | {
        "grid", "zip", "bases", "runs", "cluster", "address", "cpus_per_run", "gpus_per_run",
        "retries", "dry_run", "watch", "point"},
    "tools.thresholds": OUTPUT | {"other_run", "labels"},
    "tools.transplant": OUTPUT | COMPUTING | {"other_run", "at_rounds", "replicates"},
    "tools.untrained": OUTPUT | COMPUTING | {"other_run", "labels"},
}  # fmt: skip
WITHOUT_DEFAULT = {"raw_dir", "dataset", "out", "model", "info", "runs"}  # of what is asked for
PATHS = {"run_dir", "out_dir", "other_run", "data_dir", "raw_dir", "out", "csv", "repel_runs",
         "info", "inputs", "runs", "study"}  # fmt: skip


def run(*arguments):
    """The result of Python with some arguments."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("module", FLAGS)
def test_the_whole_help_lists_the_flags_of_a_command_and_no_others(module):
    result = run("-m", module, "--helpshort")
    assert (result.returncode, result.stderr) == (0, "")
    flags = dict(
        re.findall(r"^  --(?:\[no\])?(\w+):(.*?)(?=^  --|\Z)", result.stdout, re.MULTILINE | re.S)
    )
    assert set(flags) == FLAGS[module]
    for name, text in flags.items():
        assert not (name in PATHS) ^ ("(a path" in text) or name in ("dataset", "model"), name
        assert "efault" in text or name in WITHOUT_DEFAULT, name
    for name, choices in (("strategy", "one_device"), ("split", "train"), ("metric", "cosine")):
        if name in flags:
            assert choices in flags[name]


@pytest.mark.parametrize("module", FLAGS)
def test_help_fits_a_screen_and_shows_how_to_call_the_command(module):
    result = run("-m", module, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) <= 48
    assert any(line.strip().startswith(f"python -m {module}") for line in lines)
    shown = set(re.findall(r"^  --(\w+)", result.stdout, re.MULTILINE)) - {"flagfile"}
    assert shown <= FLAGS[module]
    assert shown >= FLAGS[module] - EXPERIMENT
    assert f"explains all {len(FLAGS[module])} flags" in result.stdout
    assert not [line for line in lines if line.startswith("  --") and len(line) > 80]


def test_every_tool_is_asked():
    tools = {f"tools.{path.stem}" for path in (ROOT / "tools").glob("*.py")}
    tools -= {"tools.__init__", "tools.__main__", "tools.shared"}
    tools -= {"tools.make_results_pages"}  # it takes no flags
    assert tools == FLAGS.keys() - {"lottery_tf.imp"}


@pytest.mark.parametrize("flag", ["-h", "--help", "-help", "--helpfull", "--helpxml"])
def test_help_by_its_other_names_succeeds(flag):
    result = run("-m", "tools.thresholds", flag)
    assert result.returncode == 0
    assert "other_run" in result.stdout


def test_the_command_lists_every_subcommand_and_imports_little():
    code = (
        "import sys, tools; sys.argv = ['lottery', '--help']; tools.main(); "
        "print(sorted({'numpy', 'keras', 'tensorflow', 'matplotlib'} & sys.modules.keys()))"
    )
    result = run("-c", code)
    assert (result.returncode, result.stderr) == (0, "")
    *listed, imported = result.stdout.splitlines()
    assert {line.split()[0] for line in listed[2:] if line[2:3].strip()} == {
        name.removeprefix("tools.").removeprefix("lottery_tf.").replace("_", "-") for name in FLAGS
    }
    assert imported == "[]"


def test_a_subcommand_has_the_flags_of_its_tool():
    for name in ("thresholds", "make-digits"):
        result = run("-m", "tools", name, "--helpshort")
        assert (result.returncode, result.stderr) == (0, "")
        module = f"tools.{name.replace('-', '_')}"
        assert set(re.findall(r"^  --(?:\[no\])?(\w+):", result.stdout, re.M)) == FLAGS[module]
    wrong = run("-m", "tools", "distance")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: ")
    assert "distances" in wrong.stderr
