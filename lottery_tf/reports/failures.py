"""The section of a study's report about what did not end well."""

import pathlib

from lottery_tf.reports.blocks import Problem, Section, Text
from lottery_tf.reports.reading import FINISHED
from lottery_tf.reports.relations import Readings
from lottery_tf.reports.run_report import to_go_on


def unfinished(directory: pathlib.Path, readings: Readings) -> Section:
    """Which runs are not finished, how each ended, and how to go on."""
    section = Section("Unfinished or failed")
    for reading in readings:
        if reading.state == FINISHED:
            continue
        done = f"{len(reading.rows)} of {reading.config.get('rounds', '?')} rounds"
        section.blocks.append(Text(f"{reading.name}: {done}, {reading.state}."))
        said = {"log.txt": reading.log, **_outputs(directory, reading.name)}
        section.blocks += [
            Text(f"{name} ends: {lines[-1]}") for name, lines in said.items() if lines
        ]
        section.blocks += to_go_on(reading)
    there = {reading.name for reading in readings}
    for path in sorted(directory.glob("*.log")):
        if path.stem not in there:
            last = (_outputs(directory, path.stem)[path.name] or ["(nothing)"])[-1]
            section.blocks.append(Problem(f"{path.stem} left no run. {path.name} ends: {last}"))
    if not section.blocks:
        section.blocks.append(Text("None: all runs are finished."))
    return section


def _outputs(directory, name):
    """{name of the file: lines} of what a run that tools.sweep started printed, if it did."""
    path = directory / f"{name}.log"
    if not path.is_file():
        return {}
    lines = path.read_text("utf-8", "replace").splitlines()
    return {path.name: [line for line in lines if line.strip()]}
