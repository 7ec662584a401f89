"""Writes the report of a run, or of several as replicates."""

import functools
import math
import pathlib
import shlex
from collections.abc import Callable, Collection, Iterable

from lottery_tf.analysis import MEASURES
from lottery_tf.analysis.runs import check_replicates, check_same_experiment
from lottery_tf.analysis.statistics import dense_row, tolerance
from lottery_tf.config.fields import format_value
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, events, hparams, tables
from lottery_tf.reports import pages, relations, verdicts, weights
from lottery_tf.reports.pages import Command, Facts, Link, Links, Picture, Problem, Section, Table
from lottery_tf.reports.reading import (
    DAMAGED,
    FINISHED,
    SAMPLING,
    Reading,
    mean_rows,
    name_among,
    read,
    uncollapsed,
    with_sampling_error,
)
from lottery_tf.reports.relations import Readings
from lottery_tf.sweeps.groups import varying

ROUNDS: Columns = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "remaining": ("weights", "{:,.0f}"),
    "train_accuracy": ("train acc", "{:.2%}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "test_accuracy_min": ("min", "{:.2%}"),
    "test_accuracy_max": ("max", "{:.2%}"),
    "test_loss": ("test loss", "{:.4f}"),
    "threshold": ("threshold", "{:.5f}"),
    "seconds": ("seconds", "{:.1f}"),
}
FILES = (
    *("config.json", "flags.cfg", "data.json", "repel_runs.json", "streams.json"),
    *("environment.json", "log.txt", "metrics.csv"),
)
# Sections of measures that say more than their table, pictures and verdict.
SECTIONS: dict[str, tuple[Callable[[Readings], Section | None], ...]] = {
    "distances": (relations.of_distances,),
    "barriers": (relations.of_barrier,),
    "learning": (relations.of_learning,),
    "histograms": (weights.of_histograms,),
    "masks": (weights.of_layers, weights.of_overlap),
    "pixels": (weights.of_pixels,),
    "thresholds": (),  # the section on accuracy has them
}
SHOWN = Table, Picture  # what a section has of a measure that was measured
# Parts of lines of log.txt that say more than that a run started, stopped or finished.
TELLING = (" collapsed: ", " was ", "The run ends")


def report(paths: Iterable[str], out: str | None = None) -> tuple[pathlib.Path, Section]:
    """Write the page of a run, or of several as replicates.

    Args:
        paths: of the runs.
        out: the file; by default analysis/report.html of the first run. If it is given, the runs
            stay as they are, and measurements are not kept.

    Returns:
        (the file, the section with the verdicts, whose blocks are Problems: what is damaged).

    Raises:
        InputError: there is no run, the runs are of different models or datasets, two of them are
            one, or the file exists and is not a report.
    """
    readings = [read(path, keep=not out) for path in paths]
    if not readings:
        raise InputError("--run_dir: expected one run or several, with commas. Received none.")
    if known := [reading.run for reading in readings if reading.config]:
        check_same_experiment(known)
        check_replicates([reading.run for reading in readings if reading.state != DAMAGED])
    problems = [problem for reading in readings for problem in reading.problems]
    with_rounds = [reading for reading in readings if reading.rows]
    if not with_rounds:
        words = f"{readings[0].run.path} has no finished round. {' '.join(problems)}"
        raise InputError(words.strip())
    path = pathlib.Path(out) if out else readings[0].run.path / "analysis" / "report.html"
    if not out:
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot write into {path.parent}: {error.strerror}. Use --out."
            ) from None
    pages.check(path)
    rows = mean_rows(with_rounds)
    of_runs = {name_among(reading, with_rounds): mean_rows([reading]) for reading in with_rounds}
    of_measures = [
        section
        for name in MEASURES
        for section_of in SECTIONS.get(name, (functools.partial(relations.of_measure, name),))
        if (section := section_of(with_rounds))
    ]
    measured = [of for of in of_measures if any(isinstance(b, SHOWN) for b in of.blocks)]
    sections = [
        what_ran(readings, path.parent),
        of_accuracy(rows, of_runs, with_rounds[0].examples),
        *measured,
        of_rounds(with_rounds, rows),
        *(section for section in of_measures if section not in measured),
        of_files(readings, path.parent),
    ]
    verdict = Section("Verdict", verdicts=[v for section in sections for v in section.verdicts])
    verdict.blocks += map(Problem, problems)
    title = readings[0].name if len(readings) == 1 else f"{len(readings)} runs as replicates"
    if not out and len(readings) == 1:
        sections[0].attempt(write_tensorboard, readings[0], verdict.verdicts)
    pages.write(path, title, sections)
    return path, verdict


def write_tensorboard(reading: Reading, of_run: Iterable[verdicts.Verdict]) -> None:
    """Write a run's flags and verdicts on TensorBoard's pages Text and HParams.

    On HParams, what the report of a study wrote of the run stays.
    """
    directory, rows = reading.run.path / "tensorboard", reading.rows
    flags = {name: value for name, (value, _) in reading.changed_flags().items()}
    told = {
        "report/flags": [f"    --{name}={format_value(value)}" for name, value in flags.items()],
        "report/verdicts": [f"* **{of.name}: {of.answer}.** {of.words}" for of in of_run],
    }
    texts = [(rows[-1]["round"], events.text(tag, "\n".join(of))) for tag, of in told.items()]
    events.replace(directory, ".report", texts)
    study = reading.run.path.parent / "tensorboard"
    if any(study.glob(f"events.*{hparams.SUFFIX}")):
        return
    accuracies = [row["test_accuracy"] for row in rows if not math.isnan(row["test_accuracy"])]
    results = {
        "hparams/matches to (%)": 100 * verdicts.sparsest_match(rows, reading.examples),
        "hparams/best test acc (%)": 100 * max(accuracies, default=math.nan),
        "hparams/last test acc (%)": 100 * rows[-1]["test_accuracy"],
    }
    hparams.write_run(directory, flags, results, reading.state)


def what_ran(readings: Readings, start: pathlib.Path) -> Section:
    """Return the section of model, data, flags, versions, machine and time, for a page in `start`.

    It links the page of the study that the runs lie in, if there is one.
    """
    section = Section("What ran")
    for reading in readings:
        section.blocks += map(Problem, reading.problems)
    if other := varying(reading.config for reading in readings if reading.config):
        names = ", ".join(f"--{name}" for name in other)
        section.blocks.append(
            Problem(f"These runs are averaged, though they differ in more than seeds: {names}.")
        )
    section.blocks.append(Facts(_facts(readings)))
    study = readings[0].run.path.parent / "report.html"
    if study.exists():
        link = pages.link(study, study.parent.parent, start)
        section.blocks += ["Beside the other runs of its study:", Links([link])]
    for reading in readings:
        section.blocks += to_go_on(reading)
    section.blocks.append("Flags that are not the defaults:")
    section.blocks.append(changed_flags_table(readings[0]))
    lines = [line for reading in readings for line in reading.log]
    notes = [line for line in lines if any(part in line for part in TELLING)]
    section.blocks += [f"log.txt: {line}" for line in notes]
    return section


def changed_flags_table(reading: Reading, without: Collection[str] = ()) -> Table:
    """Return the table of the flags that are not the defaults, but some."""
    rows: list[list[str | Link]] = [
        [f"--{name}", format_value(value), format_value("" if default is None else default)]
        for name, (value, default) in reading.changed_flags().items()
        if name not in without
    ]
    return Table(["flag", "value", "default"], rows)


def _facts(readings: Readings) -> list[tuple[str, str]]:
    first = readings[0]
    columns = {
        "runs": [reading.name for reading in readings],
        "model": [str(first.config.get("model", "unknown"))],
        "dataset": [str(first.config.get("dataset", "unknown"))],
        "seed": [str(reading.config.get("seed", "?")) for reading in readings],
        "rounds": [f"{reading.progress} ({reading.state})" for reading in readings],
        "time": [tables.duration(reading.seconds) for reading in readings],
    }
    facts = [(name, ", ".join(values)) for name, values in columns.items()]
    facts += first.environment().items()
    starts = [line for line in first.log if " started at round " in line]
    facts += [("log", start.partition(";")[0]) for start in starts]
    try:
        facts += [(f"data: {name}", words) for name, words in first.data()]
    except InputError as error:
        facts.append(("data.json", str(error)))
    return facts


def to_go_on(reading: Reading) -> list[Command]:
    """Return the command that resumes a run, or repeats a finished one, from its flag file."""
    path = tables.below_here(reading.run.path)
    if reading.own_fit or not reading.config or not (path / "flags.cfg").exists():
        return []
    finished = reading.state == FINISHED
    run_dir = path.with_name(f"{path.name}_again") if finished else path
    flags = [f"--flagfile={path / 'flags.cfg'}", f"--run_dir={run_dir}"]
    flags.append(f"--data_dir={reading.config['data_dir']}")
    words = "To repeat the run:" if finished else "To go on:"
    return [Command(words, " ".join(["python -m lottery_tf.imp", *map(shlex.quote, flags)]))]


def of_accuracy(rows: list[Row], of_runs: verdicts.Runs, examples: int | None) -> Section:
    """Return test accuracy and threshold against density, with the Verdict "Matching".

    `rows` are means over the runs; of `of_runs` and `examples` see `verdicts.matching`.
    """
    section = Section("Accuracy and threshold", verdicts=[verdicts.matching(of_runs, examples)])
    count = len(of_runs)
    bars = f"mean of {count} runs, min and max" if count > 1 else SAMPLING
    caption = f"Test accuracy against density; {bars}"
    line = None
    if dense := dense_row(rows):
        least = dense["test_accuracy"] - tolerance(dense["test_accuracy"], examples)
        line = (least, f"matching: at least {least:.2%}")
    sound = uncollapsed(rows)
    if gone := [row["round"] for row in rows if row not in sound]:
        caption += f"; collapsed and left out: {verdicts.in_words(gone)}"
    test = {"test": (with_sampling_error(sound, examples), "test_accuracy")}
    section.draw_curves(caption, test, "test accuracy (%)", percent=True, line=line)
    if all("train_accuracy" in row for row in rows):
        caption = "Training accuracy against density, over the last epoch of each round"
        training = {"training": (sound, "train_accuracy")}
        section.draw_curves(caption, training, "training accuracy (%)", percent=True)
    caption = "Pruning threshold: the largest |w| that was pruned after the round"
    section.draw_curves(caption, {"threshold": (rows, "threshold")}, "|w|")
    return section


def of_rounds(readings: Readings, rows: list[Row]) -> Section:
    """Return the table of rounds, and which have collapsed."""
    section = Section("Rounds")
    if len(readings) > 1:
        section.blocks.append(
            f"Means of {len(readings)} runs, without those whose network had collapsed."
        )
    columns = {name: about for name, about in ROUNDS.items() if all(name in row for row in rows)}
    section.add_table(rows, columns)
    for reading in readings:
        section.blocks += [
            f"Round {row['round']} of {reading.name} collapsed: {words}."
            for row in reading.rows
            if isinstance(words := row.get("collapse"), str)
        ]
    return section


def of_files(readings: Readings, start: pathlib.Path) -> Section:
    """Return links to the files of runs, from a directory."""
    section = Section("Files")
    for reading in readings:
        path = reading.run.path
        found = [path / name for name in FILES if (path / name).exists()]
        found += sorted(path.glob("round_[0-9]*"))
        found += sorted(p for p in (path / "analysis").glob("*.*") if p.suffix in (".csv", ".png"))
        links = Links([pages.link(file, path, start) for file in found])
        section.blocks += [reading.name, links]
    return section
