"""Made-up runs of the figures' studies, and what is read of them."""

import csv
import dataclasses

from lottery_tf.paper import figure_report
from lottery_tf.paper.measures import Measures
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import grid
from tests.conftest import ROOT
from tests.made_runs import make_run, set_metrics

SHAPES = {"a/kernel": (6, 9), "b/kernel": (9, 4), "b/bias": (4,)}


PREPARED = {  # images that have to be prepared: those that they are made of
    "--dataset=data/cifar10_16": "cifar10",
    "--flagfile=../figures/fig13_small.cfg": "cifar10",
    "--dataset=data/mnist_": "mnist",
}


def read_study(path, *overrides):
    """A Study; where it is of images that have to be prepared, of those they are made of."""
    lines = path.read_text().splitlines()
    made_of = [name for line, name in PREPARED.items() if any(of.startswith(line) for of in lines)]
    return grid.read(path, [*overrides, *(f"--dataset={name}" for name in made_of)])


def make_points(points, *, rounds=3, run_dir=None):
    """Made-up runs of points, those of another seed with other weights."""
    for point in points:
        config = dataclasses.replace(point.config, run_dir=str(run_dir or point.directory))
        make_run(config, rounds=rounds, shapes=SHAPES, seed=config.init_seed, reset=config.reset)


def set_accuracy(point, accuracies):
    """Gives the rounds of a made-up run other test accuracies."""
    run = RunDir(point.directory)
    for round, accuracy in enumerate(accuracies):
        set_metrics(run, round, test_accuracy=accuracy)


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def draw(name, study, measures=None):
    """Draws the small figure of a study; the rows of its table."""
    figure_report.draw(name, study, None, measures or Measures())
    return read_csv(study.runs / "figures" / f"{name}_small.csv")


def study_in(tmp_path, name="fig01_small", *overrides):
    path = ROOT / "flags" / "figures" / f"{name}.cfg"
    return read_study(path, f"--runs={tmp_path / 'runs_small'}", *overrides)


def part_of_figure_1(tmp_path):
    """Two seeds of a ticket and a reinit, and one run that is not finished."""
    study = study_in(
        tmp_path,
        "fig01_small",
        "--grid=batch_size=60,512",
        "--grid=warmup_epochs=0",
        "--grid=seed=0,1",
        "--rounds=3",
    )
    make_points([point for point in study.points if point.config.batch_size == 60])
    for point in study.points[:2]:
        set_accuracy(point, [0.9, 0.8 + 0.1 * point.config.seed, 0.7])
    make_points(study.points[4:5], rounds=2)
    return study
