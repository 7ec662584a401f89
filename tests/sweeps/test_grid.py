"""Studies as flag files: their points, and what is wrong with them."""

import shutil
import subprocess
import sys

import pytest

from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.pruning import collapse
from lottery_tf.sweeps import grid
from tests.made_runs import make_run


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function of lines -> the Study that they state, beside two base flag files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.cfg").write_text("--model=lenet\n--epochs=3\n--rounds=2\n")
    (tmp_path / "other.cfg").write_text("--flagfile=base.cfg\n--epochs=4\n")

    def read(*lines, overrides=()):
        (tmp_path / "my.cfg").write_text("\n".join(lines))
        return grid.read("my.cfg", overrides)

    return read


BASE = "--flagfile=base.cfg"


def names(study):
    return [point.name for point in study.points]


def test_axes_multiply_the_last_the_fastest(study):
    found = study("# a comment", BASE, "--grid=batch_size=60,128", "--grid=reset=init,reinit")
    assert found.axes == (("batch_size",), ("reset",))
    assert names(found) == [
        "batch_size=60_reset=init",
        "batch_size=60_reset=reinit",
        "batch_size=128_reset=init",
        "batch_size=128_reset=reinit",
    ]
    point = found.points[3]
    assert point.flags == {"batch_size": 128, "reset": "reinit"}
    assert str(point.directory) == "runs/my/batch_size=128_reset=reinit"
    assert point.config == Config(
        epochs=3, rounds=2, batch_size=128, reset="reinit", run_dir=str(point.directory)
    )


def test_the_command_of_a_point_makes_it_alone(study):
    (first, _) = study(BASE, "--optimizer=momentum", "--grid=warmup_epochs=0,2").points
    assert " ".join(first.command) == (
        "python -m lottery_tf.imp --flagfile=base.cfg --optimizer=momentum --warmup_epochs=0 "
        "--run_dir=runs/my/warmup_epochs=0"
    )


def test_a_zip_varies_flags_together_and_an_empty_value_leaves_one_out(study):
    found = study(BASE, "--zip=reset=init,rewind;rewind_to=,1ep", "--grid=seed=0,1")
    assert names(found) == [
        "reset=init_seed=0",
        "reset=init_seed=1",
        "reset=rewind_rewind_to=1ep_seed=0",
        "reset=rewind_rewind_to=1ep_seed=1",
    ]
    assert found.points[0].config.rewind_to == ""
    assert "--rewind_to" not in " ".join(found.points[0].command)


def test_several_bases_are_one_study(study):
    found = study("--bases=base.cfg,other.cfg", "--batch_size=32", "--grid=seed=0,1")
    assert names(found) == ["base_seed=0", "base_seed=1", "other_seed=0", "other_seed=1"]
    assert [point.config.epochs for point in found.points] == [3, 3, 4, 4]
    assert found.points[2].command[3:5] == ("--flagfile=other.cfg", "--batch_size=32")


def test_a_base_is_also_looked_for_among_the_flag_files_of_the_package(study):
    (point,) = study("--bases=digits.cfg").points
    assert (point.name, point.config.dataset) == ("digits", "digits")


def test_values_of_a_list_are_joined_by_plus_signs(study):
    found = study(BASE, "--schedule=step", "--grid=lr_drops=1+2,2")
    assert names(found) == ["lr_drops=1+2", "lr_drops=2"]
    assert [point.config.lr_drops for point in found.points] == [(1, 2), (2,)]


def test_a_path_in_a_value_makes_no_directory(study):
    (point,) = study(BASE, "--grid=round_0_from=runs/a").points
    assert point.name == "round_0_from=runs-a"


def test_runs_and_overrides(study):
    lines = (BASE, "--runs=here", "--grid=seed=0,1", "--grid=batch_size=8,16")
    assert str(study(*lines).runs) == "here"
    overrides = ("--runs=there", "--epochs=9", "--grid=seed=5")
    found = study(*lines, overrides=overrides)
    assert (str(found.runs), names(found)[0]) == ("there", "seed=5_batch_size=8")
    assert {point.config.epochs for point in found.points} == {9}


def test_a_study_of_a_study_replaces_axes_in_their_place(study, tmp_path):
    (tmp_path / "full.cfg").write_text(f"{BASE}\n--epochs=9\n--grid=seed=0,1\n--grid=rounds=3,4\n")
    found = study("--flagfile=full.cfg", "--epochs=5", "--grid=seed=7")
    assert names(found) == ["seed=7_rounds=3", "seed=7_rounds=4"]
    assert {point.config.epochs for point in found.points} == {5}
    assert found.points[0].command[3] == "--flagfile=base.cfg"


def test_a_flag_that_does_nothing_in_some_points_is_left_out_of_their_commands(study):
    lines = (BASE, "--momentum=0.8", "--grid=optimizer=adam,momentum")
    adam, momentum = study(*lines).points
    assert "--momentum=0.8" not in adam.command
    assert "--momentum=0.8" in momentum.command
    with pytest.raises(InputError, match=r"--momentum .*--optimizer=momentum"):
        study(BASE, "--grid=seed=0", overrides=("--momentum=0.8",))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["--grid=batch_sise=1"], ["batch_sise", "batch_size?"]),
        (["--epoch=3", "--grid=seed=0"], ["--epoch=3", "epochs?"]),
        (["--grid=seed="], ["--grid=seed=:"]),
        (["--grid="], ["--grid=:"]),
        ([], ["--grid="]),
        (["--runs=x"], ["--grid="]),
        (["--zip=seed=0,1;rounds=3"], ["2 of seed, 1 of rounds"]),
        (["--zip=seed=0,1;seed=2,3"], ["2 of seed, 2 of seed"]),
        (["--grid=seed=0", "--zip=seed=1;rounds=2"], ["twice: seed"]),
        (["--seed=1", "--grid=seed=0,1"], ["--seed=1: "]),
        (["--run_dir=x", "--grid=seed=0"], ["run_dir", "--runs"]),
        (["--grid=seed=0,0"], ["seed=0: "]),
        (["--grid=masks_from=a/b,a-b"], ["masks_from=a-b: "]),
        (["--grid=seed=0,00"], ["seed=00: ", "seed=0."]),
        (["--grid=batch_size=0,8"], ["batch_size=0: --batch_size: "]),
        (["--grid=batch_size=8,many"], ["many"]),
        (["--grid=reset=init,initt"], ["reset=initt: --reset: "]),
        (["--grid=rewind_to=5,6"], ["rewind_to=5, and 1 more: --rewind_to"]),
        (["--bases=no.cfg"], ["flags/no.cfg"]),
    ],
)
def test_what_is_wrong_is_said(study, lines, words):
    with pytest.raises(InputError) as caught:
        study(*([BASE, *lines] if lines != ["--runs=x"] else lines))
    for word in words:
        assert word in str(caught.value)


def test_all_that_is_wrong_is_listed(study):
    with pytest.raises(InputError) as caught:
        study(BASE, "--grid=batch_size=0,8", "--grid=epochs=0,1", "--grid=seed=0,-1")
    for word in ("--batch_size: ", "--epochs: ", "--seed: "):
        assert word in str(caught.value)
    with pytest.raises(InputError) as caught:
        study(BASE, "--grid=batch_sise=0,8", "--epoch=3", "--zip=seed=0")
    assert len(str(caught.value).splitlines()) == 3


def test_a_run_is_finished_with_its_rounds_or_when_nothing_was_left_to_prune(study):
    (point,) = study(BASE, "--rounds=3", "--grid=seed=0").points
    assert not point.is_finished()
    run = make_run(point.config, rounds=2)
    assert (point.finished_rounds(), point.is_finished()) == (2, False)
    shutil.rmtree(run.round_path(1))
    (row,) = run.metrics()
    arrays = {name: getattr(run, name)(0) for name in ("masks", "initial", "final")}
    row |= {"round": 1, "collapse": collapse.NOT_PRUNABLE}
    run.save_round(1, **arrays, history=[row], metrics=row)
    assert point.is_finished()


def test_reading_a_study_needs_no_tensorflow(study, tmp_path):
    (tmp_path / "my.cfg").write_text(f"{BASE}\n--grid=seed=0,1\n")
    script = (
        "import sys; from lottery_tf.sweeps import grid; grid.read('my.cfg');"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
