"""What users and files rely on, as lists of names: tests/frozen/*.txt, one name a line.

    python -m tests.test_frozen --write      # after a change that is meant, look at the diff

A list that changes fails with the lines that came (+) and went (-).
"""

import dataclasses
import difflib
import functools
import inspect
import json
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import keras
import pytest

import lottery_tf
import lottery_tf.fit
import lottery_tf.masking
import lottery_tf.rundir
from lottery_tf.config import Config
from tests.conftest import ROOT

FROZEN = ROOT / "tests" / "frozen"
NOT_COMMANDS = {"__init__", "__main__", "shared", "make_results_pages"}  # of tools/
# The combinations of tests.golden whose tables, tags and exit statuses are listed.
TOOLS = (
    "barriers",
    "classes",
    "curvature",
    "cyclic",
    "distances",
    "distances aligned",
    "histograms",
    "instability",
    "learning",
    "masks",
    "noise_scale",
    "pixels",
    "predictions",
    "stability",
    "successive",
    "thresholds",
    "transplant",
    "untrained",
)
MADE = ["study/figure 1", "rounds/init", "repel/all", "feed/early stop conv", "statuses"]
MADE += [f"tool/{name}" for name in TOOLS]


OF_ROUNDS = (lottery_tf.fit.Round, lottery_tf.fit.RewindPoint)


def flags_of(module):
    """A line for each flag of its own that a command has: its type, default and choices."""
    command = [sys.executable, "-m", module, "--helpxml"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    page = ElementTree.fromstring(result.stdout)
    lines = []
    for flag in page.findall("flag"):
        if flag.findtext("key") != "yes":
            continue
        choices = ",".join(value.text or "" for value in flag.findall("enum_value"))
        default = (flag.findtext("default") or "").replace(str(ROOT), "<root>")
        words = [module, f"--{flag.findtext('name')}", flag.findtext("type"), f"default={default}"]
        lines.append(" ".join([*words, *([f"choices={choices}"] if choices else [])]))
    return lines


def imp_flags():
    return flags_of("lottery_tf.imp")


def tool_flags():
    names = {path.stem for path in (ROOT / "tools").glob("*.py")} - NOT_COMMANDS
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(flags_of, [f"tools.{name}" for name in sorted(names)])
        return [line for lines in found for line in lines]


def config_keys():
    """The keys of config.json, of the command and of `rounds`: the default of each, its choices."""
    values, lines = json.loads(Config().to_json()), []
    for field in dataclasses.fields(Config):
        if field.name in values:
            choices = field.metadata["choices"]
            line = f"imp {field.name} {json.dumps(values.pop(field.name))}"
            lines.append(f"{line} of {','.join(choices)}" if choices else line)
    lines += [f"imp {key}" for key in values]
    image = keras.Input((3,))
    model = lottery_tf.masked(keras.Model(image, keras.layers.Dense(2)(image)))
    with tempfile.TemporaryDirectory() as directory:
        rounds = lottery_tf.rounds(model, 2, 0.5, directory=directory, verbose=0)
        next(rounds)
        values = json.loads(pathlib.Path(directory, "config.json").read_text())
        rounds.close()
    return lines + [f"rounds {key} {json.dumps(value)}" for key, value in values.items()]


def public_names():
    """Public names, with the parameters of functions and the attributes of classes."""
    public = [name for name in dir(lottery_tf) if not name.startswith("_")]
    lines = [f"lottery_tf{signature(getattr(lottery_tf, name), name)}" for name in public]
    for module in (lottery_tf.fit, lottery_tf.masking):
        lines += [
            f"{module.__name__}{signature(getattr(module, name), name)}" for name in module.__all__
        ]
    for kind in (lottery_tf.rundir.RunDir, *OF_ROUNDS):
        if kind is lottery_tf.fit.RewindPoint:
            names = vars(kind)  # the rest is Keras's
        else:
            names = [*dir(kind), *getattr(kind, "__dataclass_fields__", ())]
        lines += [
            f"{kind.__name__}{signature(getattr(kind, name, None), name)}"
            for name in sorted(set(names))
            if not name.startswith("_")
        ]
    return sorted(set(lines))


def signature(value, name):
    """.name, with the parameters of a function and their defaults."""
    # What a subclass of Keras's takes is up to the version of Keras.
    if not callable(value) or (inspect.isclass(value) and value not in OF_ROUNDS):
        return f".{name}"
    empty = inspect.Parameter.empty
    parameters = []
    for one in inspect.signature(value).parameters.values():
        default = "<function>" if inspect.isfunction(one.default) else one.default
        parameters.append(one.replace(annotation=empty, default=default))
    return f".{name}{inspect.Signature(parameters)}"


def registered():
    """Names that Keras knows after `import lottery_tf`: what saved models ask for."""
    program = "import json, keras, lottery_tf; print(json.dumps(sorted(" \
        "keras.saving.get_custom_objects())))"  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


@functools.cache
def made():
    """{combination: {file: what is kept of it}} of MADE."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "made.json")
        command = [
            sys.executable,
            "-m",
            "tests.golden",
            f"--out={path}",
            f"--only={','.join(MADE)}",
        ]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
        return json.loads(path.read_text())


def kept(of_interest):
    """(combination: file, what is kept of it), without the runs that a tool or a study is of."""
    results = made()
    for combination, files in results.items():
        if combination.startswith("sources/") and combination != "sources/lenet":
            continue  # as that one
        for file, value in files.items():
            run, _, name = file.partition("/")
            of_a_run = name in results.get(f"sources/{run}", ()) or file.startswith("runs/batch")
            if of_interest(file) and not of_a_run:
                yield f"{combination}: {file}", value


def columns():
    """The columns of every CSV file that runs, rounds, tools and studies write."""
    found = kept(lambda file: file.endswith(".csv"))
    return sorted(f"{name}: {value.partition(' rows of ')[2]}" for name, value in found)


def tags():
    """TensorBoard's tags, of runs, rounds and tools."""
    return sorted(name for name, _ in kept(lambda file: "tensorboard" in file))


def files():
    """The files that runs, rounds, tools and studies write."""
    return sorted(name for name, _ in kept(lambda file: "tensorboard" not in file))


def statuses():
    return sorted(made()["statuses"]["statuses.txt"].split("; "))


QUICK = {
    "flags_imp": imp_flags,
    "flags_tools": tool_flags,
    "config_keys": config_keys,
    "public_names": public_names,
    "registered": registered,
}
TRAINED = {
    "columns": columns,
    "tensorboard_tags": tags,
    "files": files,
    "exit_statuses": statuses,
}


def changes(name, found):
    """The lines that came and went since a list was written."""
    before = (FROZEN / f"{name}.txt").read_text().splitlines()
    lines = difflib.unified_diff(before, found, "frozen", "now", lineterm="", n=0)
    return [line for line in lines if not line.startswith(("@@", "---", "+++"))]


def check(name, found):
    if lines := changes(name, found):
        text = "\n".join(lines)
        pytest.fail(
            f"tests/frozen/{name}.txt has changed. If that is meant: python -m tests.test_frozen "
            f"--write\n{text}",
            pytrace=False,
        )


FRESH = {"flags_tools", "registered"}  # of processes that import TensorFlow


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.ci if name in FRESH else ()) for name in QUICK]
)
def test_names_that_users_rely_on_stay(name):
    check(name, QUICK[name]())


@pytest.mark.ci
def test_what_runs_and_tools_write_keeps_its_names():
    for name, function in TRAINED.items():
        check(name, function())


def write():
    FROZEN.mkdir(exist_ok=True)
    for name, function in (QUICK | TRAINED).items():
        (FROZEN / f"{name}.txt").write_text("\n".join(function()) + "\n")
        print(f"Wrote tests/frozen/{name}.txt")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("Expected --write.")
    write()
