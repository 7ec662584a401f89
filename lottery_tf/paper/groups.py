"""The runs of a study that are there, in panels, curves and replicates. NumPy only."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lottery_tf.analysis.runs import beside_seeds, repeats
from lottery_tf.analysis.statistics import SEEDS
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps.grid import Point

EXPERIMENT = [f.name for f in dataclasses.fields(Config) if not f.metadata["how"]]
UNSET = (None, "", "none", ())
RESETS = {"init": "ticket", "rewind": ""}  # --rewind_to says it
# How figures call the value of a flag; by default as "batch size 60".
NAMES: dict[str, Callable[[Any], str]] = {
    "batch_size": "batch {:d}".format,
    "learning_rate": "rate {:g}".format,
    "reset": lambda value: RESETS.get(value, value),
    "rewind_to": lambda value: f"rewound to {value}" if value else "",
    "warmup_epochs": lambda value: f"warm-up {value:g} epochs" if value else "no warm-up",
    "weight_decay": lambda value: f"weight decay {value:g}" if value else "no weight decay",
    "repel": lambda value: (
        f"{'repelled' if value > 0 else 'attracted'} ({value:g})" if value else ""
    ),
    "repel_from": lambda value: f"repelled from {value}",
    "masks_from": lambda value: f"masks of {value}" if value else "",
    "shuffle_masks": lambda value: f"shuffled ({value})" if value != "none" else "",
    "model": str,
    "dataset": lambda value: pathlib.Path(value).name,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone.

    Args:
        panel, curve: what a figure calls them.
        flags: {flag: value} that tell them from other groups.
        runs: the replicates, finished ones alone where there are such.
        colour: the index of their colour.
        control: whether they are reinits, whose curves are dashed.
    """

    panel: str
    curve: str
    flags: dict[str, Any]
    runs: Sequence[RunDir]
    colour: int
    control: bool


Found = list[tuple[Point, RunDir]]


def runs_below(directory: pathlib.Path) -> list[RunDir]:
    """The runs below a directory that have a finished round, known by their config.json.

    Raises:
        InputError: a run is damaged.
    """
    found = []
    for path, directories, files in os.walk(directory):
        if "config.json" in files:
            directories.clear()
            found.append(RunDir(path))
        directories.sort()
    return [run for run in found if run.finished_rounds()]


def each_once(runs: Iterable[RunDir]) -> tuple[list[RunDir], list[str]]:
    """Return (runs of different flags or seeds, which others are one of these again in words)."""
    runs = list(runs)
    again = repeats(runs)
    words = [
        f"{run.path} repeats {first.path}, and is left out: {why}."
        for run, (first, why) in again.items()
    ]
    return [run for run in runs if run not in again], words


def match(points: Iterable[Point], runs: Iterable[RunDir]) -> tuple[Found, list[Point]]:
    """([(point, the run of its flags)], points without a run)."""
    by_flags = {_experiment(run.config()): run for run in runs}
    found, missing = [], []
    for point in points:
        run = by_flags.get(_experiment(dataclasses.asdict(point.config)))
        if run:
            found.append((dataclasses.replace(point, directory=run.path), run))
        else:
            missing.append(point)
    return found, missing


def _experiment(flags):
    """The values of all flags of the experiment, as one key."""
    values = (flags[name] for name in EXPERIMENT)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def group(found: Found, panel: Sequence[str]) -> list[Group]:
    """The Groups of runs, parted by the flags of panels, and inside by all others but the seeds.

    Raises:
        InputError: a study varies a thing that two groups would be called alike by.
    """
    curve = _varied(found, panel)
    parts: dict[tuple, Found] = {}
    for point, run in found:
        values = tuple(_value(point.config, name) for name in (*panel, *curve))
        parts.setdefault(values, []).append((point, run))
    groups: list[Group] = []
    seen: dict[tuple, int] = {}
    for values, members in parts.items():
        flags = dict(zip((*panel, *curve), values, strict=True))
        colour = seen.setdefault(_kind(flags, curve), len(seen))
        runs = [run for point, run in members if point.is_finished()]
        names = _call(flags, panel) or "regular" * bool(panel), _call(flags, curve) or "rewound"
        control = members[0][0].config.reset == "reinit"
        groups.append(Group(*names, flags, runs or [run for _, run in members], colour, control))
    titles = [(of.panel, of.curve) for of in groups]
    if alike := [names for names in titles if titles.count(names) > 1]:
        raise InputError(f"Two groups of runs are both called {', '.join(alike[0])}.")
    return groups


def _varied(found, panel):
    """The flags but the panels' and the seeds that vary inside a panel, --reset the last."""
    panels: dict[tuple, list[Config]] = {}
    for point, _ in found:
        key = tuple(getattr(point.config, name) for name in panel)
        panels.setdefault(key, []).append(point.config)
    varied = {
        name
        for configs in panels.values()
        for name in EXPERIMENT
        if len({_value(config, name) for config in configs}) > 1
    }
    varied = (varied | {"reset"}) - {*panel, *SEEDS}
    return sorted(varied, key=lambda name: (name == "reset", EXPERIMENT.index(name)))


def _kind(flags, curve):
    """What has a colour of its own; a reinit has that of its ticket, if more than both varies."""
    values = {name: flags[name] for name in curve}
    if len(curve) > 1 and values["reset"] == "reinit":
        values["reset"] = "init"
    return tuple(values.values())


def _value(config, name):
    seeds = {seed: getattr(config, seed) for seed in SEEDS}
    return beside_seeds(name, getattr(config, name), seeds)


def _call(flags, names):
    """What the values of some flags are called, joined."""
    return ", ".join(part for name in names if (part := called(name, flags[name])))


def called(name: str, value: Any) -> str:
    """What figures call the value of a flag; "" where it goes without saying."""
    if name not in NAMES and value in UNSET:
        return ""
    return NAMES.get(name, f"{name.replace('_', ' ')} {{}}".format)(value)


def about(found: Found, groups: Sequence[Group], together: str) -> str:
    """What runs have in common: model, dataset, and how many seeds, in the words of `together`."""
    configs = [point.config for point, _ in found]
    names = list(dict.fromkeys(f"{c.model} on {NAMES['dataset'](c.dataset)}" for c in configs))
    counts = sorted({len(group.runs) for group in groups})
    seeds = f"{counts[0]} to {counts[-1]}" if counts[1:] else str(counts[0])
    return f"{', '.join(names)}; " + (together.format(seeds) if counts != [1] else "one seed")
