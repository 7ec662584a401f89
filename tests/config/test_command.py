import dataclasses
import json
import operator
import os
import re
import string
import subprocess
import sys

import pytest
from absl import flags

from lottery_tf.config import Config, command, constraints
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir, differences
from tests.conftest import ROOT


@pytest.fixture
def parse():
    def parse(*arguments):
        values = flags.FlagValues()
        command.define_config_flags(values)
        return command.parse_config(["imp", *map(str, arguments)], values)

    return parse


@pytest.fixture
def flag_file(tmp_path):
    path = tmp_path / "tiny.cfg"
    path.write_text("# a comment\n\n--epochs=3\n--rounds=2\n// another\n--batch_size=16\n")
    return path


def test_the_command_line_wins_wherever_it_stands(parse, flag_file):
    for arguments in (
        ["--epochs=7", f"--flagfile={flag_file}"],
        [f"--flagfile={flag_file}", "--epochs=7"],
        ["--epochs", "7", "--flagfile", flag_file],
    ):
        config = parse(*arguments)
        assert (config.epochs, config.rounds, config.batch_size) == (7, 2, 16)


def test_a_nested_flag_file_is_looked_for_beside_the_including_one(parse, flag_file):
    (flag_file.parent / "sub").mkdir()
    outer = flag_file.parent / "sub" / "outer.cfg"
    outer.write_text("--flagfile=../tiny.cfg\n--epochs=9\n")
    config = parse(f"--flagfile={outer}")
    assert (config.epochs, config.batch_size) == (9, 16)


def test_a_flag_file_that_includes_itself_is_an_error(parse, flag_file):
    flag_file.write_text("--flagfile=tiny.cfg\n")
    with pytest.raises(InputError, match=r"tiny\.cfg .*tiny\.cfg"):
        parse(f"--flagfile={flag_file}")


def test_missing_flag_files_are_named(parse, flag_file):
    flag_file.write_text("--flagfile=gone.cfg\n")
    for name, words in (
        ("nowhere.cfg", r"nowhere\.cfg"),
        ("flags/no.cfg", r"flags/no\.cfg .*/flags/no\.cfg"),
        ("~nobody_here/my.cfg", r"~nobody_here/my\.cfg"),  # pathlib cannot expand it
        (flag_file, r"gone\.cfg.*tiny\.cfg"),
    ):
        with pytest.raises(InputError, match=words):
            parse(f"--flagfile={name}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_flag_file_may_begin_with_a_mark_as_windows_writes_it(parse, flag_file, encoding):
    flag_file.write_text("--epochs=3\n--run_dir=é\n", encoding)
    outer = flag_file.parent / "outer.cfg"
    outer.write_text("--flagfile=tiny.cfg\n--rounds=4\n", encoding)
    config = parse(f"--flagfile={outer}")
    assert (config.epochs, config.run_dir, config.rounds) == (3, "é", 4)


def test_a_config_that_an_editor_saved_with_a_mark_is_read(tmp_path):
    (tmp_path / "config.json").write_text(Config(epochs=7).to_json(), "utf-8-sig")
    assert RunDir(tmp_path).config()["epochs"] == 7


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"--epochs=3\n\0\n", bytes(range(256))])
def test_a_binary_flag_file_is_refused(parse, flag_file, content):
    flag_file.write_bytes(content)
    with pytest.raises(InputError, match=r"tiny\.cfg .*--rounds=3"):
        parse(f"--flagfile={flag_file}")


def test_run_dir_names_the_flag_file_and_the_experiment_flags_that_differ(parse, flag_file):
    name = f"--flagfile={flag_file}"
    assert parse(name).run_dir == "runs/tiny"
    assert parse(name, "--epochs=3", "--data_dir=x", "--rounds=9").run_dir == "runs/tiny"
    assert parse(name, "--reset=reinit").run_dir == "runs/tiny_reset=reinit"
    changed = parse("--lr_drops=1,2", "--schedule=step", name, "--seed=1").run_dir
    assert changed == "runs/tiny_seed=1_schedule=step_lr_drops=1+2"
    assert parse().run_dir == "runs/defaults"
    assert parse(name, "--run_dir=here").run_dir == "here"


def test_flags_cfg_repeats_the_experiment(parse, tmp_path):
    config = parse("--schedule=step", "--lr_drops=5,9", "--init_seed=4", "--weight_decay=1e-5")
    path = tmp_path / "flags.cfg"
    path.write_text(config.to_flags())
    again = parse(f"--flagfile={path}", f"--run_dir={config.run_dir}")
    assert again == config


def test_config_json_has_every_flag_on_its_own_line():
    text = Config(seed=3).to_json()
    recorded = json.loads(text)
    assert len(text.splitlines()) == len(recorded) + 2
    assert (recorded["seed"], recorded["init_seed"], recorded["data_seed"]) == (3, 3, 3)
    assert differences(recorded, Config(seed=3, run_dir="elsewhere"), how=False) == {}
    other = Config(seed=3, epochs=9, data_dir="there")
    assert differences(recorded, other, how=False) == {"epochs": (25, 9)}
    assert differences(recorded, other, how=True) == {"data_dir": ("data", "there")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=resnet99"], r"--model: .*lenet.*resnet99"),
        (["--dataset=svhn"], r"--dataset: .*mnist.*svhn"),
        (["--criterion=magic"], r"--criterion: .*magnitude.*magic"),
        (["--reset=never"], r"--reset: .*init, rewind.*never"),
        (["--prune_fraction=0"], r"--prune_fraction: .* 0\b.* 0\.0$"),
        (["--prune_fraction=1"], r"--prune_fraction: .* 1\b.* 1\.0$"),
        (["--prune_fraction=nan"], r"--prune_fraction: .* nan$"),
        (["--rounds=0"], r"--rounds: .* 1\b.* 0$"),
        (["--epochs=-1"], r"--epochs: .* 1\b.* -1$"),
        (["--learning_rate=inf"], r"--learning_rate: .* inf$"),
        (
            ["--schedule=step", "--epochs=10", "--lr_drops=5,10"],
            r"--lr_drops.* 5,10\b.*--lr_drops=4,8\b",
        ),
        (["--schedule=step"], r"--lr_drops .*--lr_drops=16,20\b"),
        (
            ["--schedule=step", "--epochs=1", "--lr_drops=5"],
            r"--epochs=1 .*--lr_drops .* 5\.[^=]*--schedule=cosine",
        ),
        (["--schedule=step", "--lr_drops=5,x"], r"--lr_drops: .* 5,x$"),
        (["--seed=-1"], r"--seed: .* 0\b.* -1$"),
        (["rounds=3"], r"--rounds=3\b.* rounds=3$"),
    ],
)
def test_bad_values_say_what_was_expected_and_what_came(parse, arguments, words):
    with pytest.raises(InputError, match=re.compile(words, re.DOTALL)):
        parse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--momentum=0.9"], "--momentum .*--optimizer=momentum.*--optimizer=adam"),
        (["--lr_drops=5"], "--lr_drops .*--schedule=step.*--schedule=constant"),
        (["--full_rounds=10"], "--full_rounds .*--early_stop=connected.*--early_stop=none"),
        (["--lr_drop_factor=10"], "--lr_drop_factor .*--schedule=step.*--schedule=constant"),
        (["--weight_decay_mode=l2"], "--weight_decay_mode .*--weight_decay:.*--weight_decay=0"),
        (["--weight_decay_on=all", "--weight_decay=0"], "--weight_decay_on .*--weight_decay=0"),
        (["--repel_from=2"], "--repel_from .*--repel:.*--repel=0"),
        (["--cpu_devices=2"], "--cpu_devices .*--strategy=mirrored.*--strategy=auto"),
        (
            ["--shard_files", "--strategy=one_device"],
            "--shard_files .*--strategy=multi_worker .*--strategy=one_device",
        ),
        (
            ["--nosync_bn", "--strategy=one_device"],
            "--sync_bn .*--strategy=mirrored .*--strategy=one_device",
        ),
        (["--nosync_bn"], "--sync_bn .*lenet.* bn_affine.*--model=.*resnet20"),
        (["--nobn_affine", "--model=conv4"], "--bn_affine .*conv4.*--model=.*vgg19"),
        (["--shortcut=identity"], "--shortcut .*lenet.*--model=.*resnet18"),
        (["--shortcut=identity", "--model=vgg16"], "--shortcut .*vgg16.*--model=.*resnet18"),
        (
            ["--initializer=kaiming_normal", "--model=tests.networks:dropout"],
            "--initializer .*tests.networks:dropout",
        ),
        (["--seed=1", "--init_seed=2", "--data_seed=3"], "--seed .*--init_seed and --data_seed"),
        (["--image_size=8", f"--data_dir={ROOT}/data"], "--image_size .*digits"),
        ([f"--dataset={ROOT}/data/digits", "--data_dir=data"], "--data_dir .*--dataset=digits"),
    ],
)
def test_a_flag_that_does_nothing_is_refused(parse, tmp_path, arguments, words):
    with pytest.raises(InputError, match=re.compile(words, re.DOTALL)):
        parse(*arguments)
    # In a flag file it may be meant for another variant; and what was made may go on.
    path = tmp_path / "file.cfg"
    path.write_text("\n".join(arguments))
    parse(f"--flagfile={path}")
    (tmp_path / "config.json").touch()
    parse(*arguments, f"--run_dir={tmp_path}")


def test_flags_that_do_something_stand(parse):
    parse("--optimizer=momentum", "--momentum=0.9", "--weight_decay=1", "--weight_decay_on=all")
    parse("--repel=-1", "--repel_from=previous", "--model=vgg16", "--bn_affine", "--nosync_bn")
    parse("--strategy=mirrored", "--cpu_devices=2", "--seed=1", "--init_seed=2")
    parse("--model=tests.networks:momentum_of_its_own", "--momentum=0.5", "--nosync_bn")


def test_the_tables_of_flags_name_flags():
    names = {field.name for field in dataclasses.fields(Config)}
    assert constraints.NEEDS.keys() | constraints.OF_NETWORK.keys() <= names
    assert {needed for needed, _ in constraints.NEEDS.values()} <= names
    for other, useless in constraints.USELESS_BESIDE.items():
        assert {other, *useless} <= names
    for needed, values in constraints.NEEDS.values():
        for value in values:  # a value that is no longer one would refuse the flag for ever
            with_it = {"lr_drops": (1,), "rewind_to": "1ep", "density": 0.1, "rounds": 2}
            with_it |= {"scope": "erk"}
            dataclasses.replace(Config(), **with_it | {needed: value})


def test_what_rules_say_names_flags():
    for _, message in (*constraints.TOGETHER, *constraints.NEW):
        named = set(re.findall(r"--(\w+)", message))
        assert named
        assert named <= {field.name for field in dataclasses.fields(Config)}
        shown = [name for _, name, _, _ in string.Formatter().parse(message) if name]
        assert all(operator.attrgetter(name)(Config(rounds=1)) is not Ellipsis for name in shown)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"prune_at": "init"}, r"--prune_at=init .*--density"),
        ({"prune_at": "train", "density": 0.1, "reset": "finetune"}, "--reset=finetune"),
        ({"prune_at": "init", "density": 0.1, "criterion": "movement"}, "--criterion=movement"),
        ({"prune_at": "train", "density": 0.1, "criterion": "snip"}, "--criterion=snip"),
        ({"prune_at": "train", "density": 0.1, "repel": 1.0}, "--repel"),
        ({"prune_at": "dynamic", "scope": "erk"}, r"--prune_at=dynamic .*--density"),
        ({"prune_at": "dynamic", "density": 0.1}, "--scope=erk"),
        ({"prune_at": "dynamic", "density": 0.1, "scope": "erk", "repel": 1.0}, "--repel"),
        (
            {"prune_at": "dynamic", "density": 0.1, "scope": "erk", "criterion": "snip"},
            "--criterion=snip",
        ),
        ({"prune_at": "dynamic", "density": 0.1, "scope": "erk", "reset": "finetune"}, "--reset"),
        ({"prune_at": "train", "density": 0.1, "prune_iterations": 2}, "--prune_iterations"),
        ({"density": 0.1, "densities": (0.5,)}, r"--density=0\.1 --densities=0\.5"),
        ({"densities": (0.1, 0.5)}, r"--densities: .* 0\.1,0\.5$"),
        ({"layer_fractions": ("logits:0.1",)}, "--layer_fractions .*--scope=global"),
        (
            {"layer_fractions": ("logits:0.1",), "scope": "layer", "density": 0.1},
            "--layer_fractions .*--density",
        ),
        ({"layer_fractions": ("logits",), "scope": "layer"}, "--layer_fractions: .* logits$"),
        ({"reset": "rewind"}, "--reset=rewind .*--rewind_to"),
        ({"rewind_to": "5eps"}, "--rewind_to: .* 5eps$"),
        ({"test_fraction": 0.1, "test_split": "test"}, "--test_fraction=.*--test_split=test"),
        ({"early_stop": "connected", "epochs": 5}, "--short_epochs: .*--epochs=5.* 5$"),
        ({"structure": "4:2"}, "--structure: .* '4:2'$"),
        ({"structure": "2:4", "density": 0.3}, "--structure=2:4 .*--density=0.3 "),
        ({"structure": "2:4", "densities": (0.75, 0.6)}, "--densities=0.75,0.6"),
        ({"structure": "2:4", "scope": "erk"}, "--structure=2:4 .*--scope"),
        ({"structure": "2:4", "min_layer_weights": 2}, "--min_layer_weights"),
        ({"structure": "2:4", "structure_pool": "mean"}, "--structure_pool=mean .*2:4$"),
        ({"structure_pool": "l2"}, "--structure_pool=l2 .*none$"),
    ],
)
def test_flags_that_do_not_go_together_are_named(flags, words):
    with pytest.raises(InputError, match=words):
        Config(**flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"early_stop": "connected", "prune_at": "train", "density": 0.1}, "--prune_at=train"),
        (
            {"early_stop": "connected", "prune_at": "dynamic", "density": 0.1, "scope": "erk"},
            "--prune_at=dynamic",
        ),
        ({"early_stop": "connected", "reset": "finetune"}, "--reset=finetune"),
        ({"warmup_epochs": 30.0}, r"--warmup_epochs: .*--epochs=25.* 30\.0$"),
    ],
)
def test_what_only_older_runs_may_do_is_refused_in_a_new_one(flags, words):
    config = Config(**flags | {"validation_fraction": 0.1})
    with pytest.raises(InputError, match=words):
        constraints.check_new(config)


def imp(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lottery_tf.imp", *arguments], capture_output=True, text=True
    )


def test_the_command_reports_bad_input_in_one_line_and_fails():
    for arguments, word in (
        (["--rounds=0"], "rounds"),
        (["--round=3"], "Unknown command line flag 'round'"),
        (["--rounds=three"], "three"),
        (["--flagfile=nowhere.cfg"], "nowhere.cfg"),
    ):
        result = imp(*arguments)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        assert word in result.stderr
        assert "Traceback" not in result.stderr


COMMANDS = [
    f"tools.{path.stem}"
    for path in sorted((ROOT / "tools").glob("[a-z]*.py"))
    if path.stem != "shared" and re.search(r"\b(command\.run|run_measure)\(", path.read_text())
]


@pytest.mark.ci
@pytest.mark.parametrize("module", ["lottery_tf.imp", *COMMANDS])
def test_a_working_directory_that_was_deleted_is_one_line(module, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m {module} --run_dir=x"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert f" {gone}: " in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_error_of_the_system_without_a_file_is_one_line(capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(SystemExit):
        command._guarded(full)(None)
    assert capsys.readouterr().err == "Error: No space left on device.\n"


def test_help_shows_flags_with_choices_and_defaults():
    text = imp("--helpfull").stdout
    for word in ("--prune_fraction", "default: '0.2'", "trained_signs", "lenet"):
        assert word in text


def test_modules_for_numpy_do_not_import_tensorflow():
    script = (
        "import sys, lottery_tf.pruning.top_k, lottery_tf.pruning.resets, lottery_tf.rundir;"
        "import lottery_tf.config;"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


FLAG_FILES = sorted((ROOT / "flags").glob("*.cfg"))


@pytest.mark.parametrize("path", FLAG_FILES, ids=lambda path: path.stem)
def test_every_flag_file_parses_and_says_what_to_expect(parse, path):
    config = parse(f"--flagfile={path}")
    assert config.run_dir == f"runs/{path.stem}"
    text = path.read_text()
    assert text.startswith(f"# python -m lottery_tf.imp --flagfile=flags/{path.name}\n#")
    assert re.search(r"Expect|Measured", text)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("lenet", (25, 60, "adam", 1.2e-3, "constant", (), "kaiming_uniform", 0)),
        ("resnet20", (85, 128, "momentum", 0.1, "step", (56, 71), "kaiming_normal", 1e-5)),
        ("conv4", (75, 128, "momentum", 0.01, "cosine", (), "kaiming_normal", 1e-5)),
        ("resnet50", (90, 1024, "momentum", 0.4, "step", (30, 60, 80), "kaiming_normal", 1e-5)),
    ],
)
def test_flag_files_hold_the_values_of_table_1(parse, name, row):
    config = parse(f"--flagfile={ROOT}/flags/{name}.cfg")
    names = ("epochs", "batch_size", "optimizer", "learning_rate", "schedule", "lr_drops")
    names += ("initializer", "weight_decay")
    assert tuple(getattr(config, name) for name in names) == row
    assert (config.rounds, config.prune_fraction, config.momentum) == (25, 0.2, 0.9)
    assert not config.bn_affine


def test_accumulate_steps_divide_the_batch(parse):
    with pytest.raises(InputError, match=r"--accumulate_steps: .*--batch_size=60.* 7$"):
        parse("--batch_size=60", "--accumulate_steps=7")


# Values that nothing fills in: what is given stays, or is refused.
GIVEN = {"rounds": (1, 2, 25, 100), "density": (0.1,), "densities": ((0.5,), (0.5, 0.2))}
GIVEN |= {name: (0, 7) for name in ("seed", "init_seed", "data_seed")}
GIVEN |= {"finetune_epochs": (1, 50), "batch_size": (1, 64)}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("beside", [{}, {"density": 0.1}, {"seed": 3}, {"masks_from": "runs/a"}])
def test_a_config_changes_no_value_that_it_is_given(name, beside):
    for value in GIVEN[name]:
        values = beside | {name: value}
        try:
            config = Config(**values)
        except InputError:
            assert "density" in values
            assert name in ("rounds", "densities")
            continue
        assert {flag: getattr(config, flag) for flag in values} == values


def test_rounds_are_as_many_as_densities():
    with pytest.raises(InputError, match=r"--rounds.* 2,.*25"):
        Config(rounds=25, density=0.1)
    with pytest.raises(InputError, match=r"--rounds.* 3,.*4"):
        Config(rounds=4, densities=(0.5, 0.2))
    for given, rounds in (
        ({}, 25),
        ({"density": 0.1}, 2),
        ({"densities": (0.5, 0.2)}, 3),
        ({"densities": (0.5, 0.2), "rounds": 2}, 2),
        ({"density": 0.1, "masks_from": "runs/a", "rounds": 25}, 25),
    ):
        assert json.loads(Config(**given).to_json())["rounds"] == rounds


def test_a_command_lowers_the_rounds_of_a_flag_file_and_says_so(parse, flag_file, capsys):
    flag_file.write_text("--rounds=25\n")
    name = f"--flagfile={flag_file}"
    for arguments, rounds, words in (
        ([name, "--density=0.1"], 2, r"--rounds=25 .* 2\b"),
        (["--rounds=25", "--densities=0.5,0.2"], 3, r"--rounds=25 .* 3\b"),
        ([name, "--density=0.1", "--rounds=2"], 2, "^$"),
        (["--density=0.1"], 2, "^$"),
        ([name], 25, "^$"),
        ([], 25, "^$"),
    ):
        assert parse(*arguments).rounds == rounds
        assert re.search(words, capsys.readouterr().err)


def test_a_record_without_rounds_is_damaged(tmp_path):
    values = json.loads(Config().to_json()) | {"rounds": None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="--rounds"):
        RunDir(tmp_path).config()


def test_old_runs_keep_the_rounds_that_were_the_default_beside_densities(parse, tmp_path):
    densities = [round(0.99**n, 4) for n in range(1, 31)]
    arguments = [f"--densities={','.join(map(str, densities))}", f"--run_dir={tmp_path}"]
    config = parse(*arguments)
    assert config.rounds == 31
    for recorded, expected in ((25, 25), (31, 31)):
        text = dataclasses.replace(config, rounds=recorded).to_json()
        (tmp_path / "config.json").write_text(text)
        assert parse(*arguments).rounds == expected
    (tmp_path / "config.json").write_text("damaged")
    assert parse(*arguments).rounds == 31
    assert parse(*arguments, "--rounds=28").rounds == 28


@pytest.mark.parametrize(
    ("arguments", "level"), [([], -2), (["--verbosity=1"], 1), (["-v=-1"], -1)]
)
def test_the_verbosity_is_the_users(arguments, level):
    program = "from absl import logging\nfrom lottery_tf.config import command\n"
    program += "command.run(lambda _: print(logging.get_verbosity()))"
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.split() == [str(level)], result.stderr
