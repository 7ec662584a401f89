"""What replicates differ in: their seeds, and the runs of these seeds that they go on from."""

import re
from typing import Any

SEEDS = ("seed", "init_seed", "data_seed")
OF_RUNS = ("masks_from", "repel_runs")  # flags of the experiment that name runs
_SEED = re.compile(r"_?(init_|data_)?seed=\d+")


def beside_seeds(name: str, value: Any) -> Any:
    """The value of a flag, alike for all replicates: seeds in the names of runs are left out.

    So masks_from=runs/criterion=snip_seed=1 is runs/criterion=snip. The names are those that
    tools.sweep and the experiment itself give; runs called otherwise stay apart.

    Args:
        name: of the flag.
        value: what a Config or a config.json has, tuple or list where there may be several.
    """
    if name not in OF_RUNS:
        return value
    if isinstance(value, str):
        return _SEED.sub("", value)
    return type(value)(_SEED.sub("", run) for run in value or ())
