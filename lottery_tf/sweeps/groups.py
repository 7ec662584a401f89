"""Groups the runs of a study: replicates, which differ in seeds alone, in curves and panels."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from lottery_tf.analysis.runs import beside_seeds
from lottery_tf.analysis.statistics import SEEDS
from lottery_tf.config import Config

Run = TypeVar("Run")
Flags = Mapping[str, Any]  # {flag: value}, as a Config or a config.json has them
HOW = {field.name for field in dataclasses.fields(Config) if field.metadata["how"]}
EXPERIMENT = [field.name for field in dataclasses.fields(Config) if field.name not in HOW]


@dataclasses.dataclass(frozen=True)
class Group(Generic[Run]):
    """Replicates: runs that differ in their seeds alone."""

    panel: str  # its name in a figure; a panel has several curves
    curve: str
    flags: dict[str, Any]  # {flag: value} that tell them from other groups
    runs: list[Run]
    colour: int  # the index of the colour of the curve; a reinit may have that of its ticket

    @property
    def control(self) -> bool:
        """Whether the runs are reinits, the control of a ticket."""
        return self.flags.get("reset") == "reinit"


def differing(runs: Iterable[Flags]) -> list[str]:
    """Return the experiment flags in which runs differ, in the order of --help.

    --seed is one of them; --init_seed and --data_seed are only where they differ from it. Keys that
    are not flags, which runs around a user's own fit record, stand at the end.
    """
    configs = list(runs)
    names = dict.fromkeys([*EXPERIMENT, *(name for config in configs for name in config)])
    as_seed = {name for name in SEEDS[1:] if all(of.get(name) == of.get("seed") for of in configs)}
    return [
        name
        for name in names
        if name not in HOW | as_seed and any(of.get(name) != configs[0].get(name) for of in configs)
    ]


def varying(runs: Iterable[Flags], panel: Sequence[str] = ()) -> list[str]:
    """Return the flags that vary inside a panel of runs, in which replicates do not differ.

    `panel` has the flags by which runs are parted into panels; by default all are in one.
    """
    panels: dict[str, list[Flags]] = {}
    for flags in runs:
        panels.setdefault(repr([value(flags, name) for name in panel]), []).append(flags)
    names = {
        name: None
        for in_panel in panels.values()
        for name in differing(in_panel)
        if name not in SEEDS and len({repr(value(flags, name)) for flags in in_panel}) > 1
    }
    return sorted(names, key=[*EXPERIMENT, *names].index)


def value(flags: Flags, name: str) -> Any:
    """Return the value of a flag of a run, equal for all replicates; "" of an unknown flag."""
    found = beside_seeds(name, flags.get(name, ""), {seed: flags.get(seed) for seed in SEEDS})
    return tuple(found) if isinstance(found, list) else found


def group(
    runs: Iterable[tuple[Flags, Run]],
    *,
    panel: Sequence[str],
    curve: Sequence[str],
    name: Callable[[Flags], str],
) -> list[Group[Run]]:
    """Return the Groups of runs.

    Args:
        runs: (flags, the run) of each.
        panel: the flags by which runs are parted into panels.
        curve: the other flags that vary, by which panels are parted into curves.
        name: returns what some flags are called in a figure.
    """
    parts: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for flags, run in runs:
        values = {flag: value(flags, flag) for flag in (*panel, *curve)}
        parts.setdefault(repr(values), (values, []))[1].append(run)
    groups: list[Group[Run]] = []
    colours: dict[str, int] = {}
    for values, members in parts.values():
        of_panel, of_curve = ({flag: values[flag] for flag in flags} for flags in (panel, curve))
        names = name(of_panel), name(of_curve)
        if len(curve) > 1 and of_curve.get("reset") == "reinit":
            of_curve["reset"] = "init"  # it has the colour of its ticket, where more varies
        colour = colours.setdefault(repr(of_curve), len(colours))
        groups.append(Group(*names, values, members, colour))
    return groups
