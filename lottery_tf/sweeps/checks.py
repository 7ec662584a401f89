"""What can be wrong with a study before anything of it starts. No TensorFlow."""

from collections.abc import Callable

from lottery_tf import datasets
from lottery_tf.config.constraints import check_new
from lottery_tf.errors import InputError
from lottery_tf.loop.round_0 import check_other_runs
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps.grid import Point, Study
from lottery_tf.sweeps.statement import refuse


def check(study: Study) -> None:
    """Raises InputError with all that is wrong with a study's data and run directories."""
    if (study.runs / "config.json").exists():
        raise InputError(
            f"--runs={study.runs}: expected a directory of runs. This is one run itself: name "
            "another."
        )
    wrong = []
    for point in study.points:
        for problem in (_data, _runs_of_others, _directory):
            if message := _message(problem, point):
                wrong.append(f"{point.name}: {message}")
                break
    refuse(study.path, wrong)


def _message(problem: Callable[[Point], None], point: Point) -> str:
    """What a check has against a point; "" if nothing."""
    try:
        problem(point)
    except InputError as error:
        return str(error)
    return ""


def _data(point):
    config = point.config
    examples = datasets.find(config).splits["train"].examples
    if config.batch_size > examples:
        raise InputError(
            f"--batch_size: expected at most {examples}, the examples of the training split. "
            f"Received: {config.batch_size}"
        )


def _runs_of_others(point):
    check_other_runs(point.config)


def _directory(point):
    run = RunDir(point.directory)
    if (run.path / "config.json").exists():  # that it is in use is said when it is its turn
        run.refuse_other_flags(point.config)
        point.is_finished()
    else:
        check_new(point.config)
        run.check(point.config)
