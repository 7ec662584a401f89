"""What replicates differ in: their seeds, and the runs of these seeds that they go on from."""

import re
from collections.abc import Mapping
from typing import Any

OF_RUNS = ("masks_from", "repel_runs")  # flags of the experiment that name runs
_SEED = re.compile(r"(?:^|(?<=/)|_)(seed|init_seed|data_seed)=(\d+)")


def beside_seeds(name: str, value: Any, seeds: Mapping[str, int | None]) -> Any:
    """The value of a flag, alike for all replicates: of runs that it names, without their seeds.

    So the masks_from=runs/criterion=snip_seed=1 of a run of seed 1 is runs/criterion=snip; that of
    a run of another seed stays, for it is no replicate. The names are those that tools.sweep and
    the experiment itself give; runs called otherwise stay apart.

    Args:
        name: of the flag.
        value: what a Config or a config.json has, tuple or list where there may be several.
        seeds: {name of statistics.SEEDS: that of the run that has the flag}.
    """
    if name not in OF_RUNS:
        return value

    def without(path):
        return _SEED.sub(lambda of: "" if seeds.get(of[1]) == int(of[2]) else of[0], path)

    return without(value) if isinstance(value, str) else type(value)(map(without, value))
