"""What an experiment is: one field = one flag, with its help = one line of config.json."""

import dataclasses
import json
from typing import Any

from lottery_tf.config.constraints import check_together
from lottery_tf.config.data import DataFlags
from lottery_tf.config.devices import DeviceFlags
from lottery_tf.config.fields import check, flag, format_value
from lottery_tf.config.optimization import OptimizationFlags
from lottery_tf.config.pruning import PruningFlags
from lottery_tf.config.repulsion import RepulsionFlags

ROUNDS = 25  # where nothing says how many


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """Flags of the run itself."""

    run_dir: str = flag(
        "",
        "Directory of the run. Default: runs/<flag file>, with _flag=value for each experiment "
        "flag that the command line changes.",
        how=True,
        path=True,
    )
    # Older versions recorded larger seeds, so check_new bounds them.
    seed: int = flag(
        0, "Seed that --init_seed and --data_seed default to, below 2**32.", at_least=0
    )
    init_seed: int = flag(
        None, "Seed of the initialization, below 2**32. Default: --seed.", at_least=0
    )
    data_seed: int = flag(
        None,
        "Seed of the SGD noise, the order of the data, below 2**32. Default: --seed.",
        at_least=0,
    )


# Of bases the last comes first: read this line from its end for the order of --help and names.
@dataclasses.dataclass(frozen=True)
class Config(RepulsionFlags, DeviceFlags, PruningFlags, OptimizationFlags, DataFlags, RunFlags):
    """A checked experiment; raises InputError on construction if a value is out of bounds."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                check(field, item)
        check_together(self)
        # What is not given is filled in, so that the run's record says which it was.
        if self.rounds is None:
            object.__setattr__(self, "rounds", self.most_rounds or ROUNDS)
        for name in ("init_seed", "data_seed"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.seed)

    @classmethod
    def recorded(cls, values: dict[str, Any], **changes: Any) -> "Config":
        """The Config that config.json holds, with some flags changed.

        A flag that config.json does not know has its default.
        """
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**(values | changes))

    def to_json(self) -> str:
        """The lines of config.json: every flag but run_dir, one per line."""
        values = dataclasses.asdict(self)
        del values["run_dir"]
        return json.dumps(values, indent=0) + "\n"

    def to_flags(self) -> str:
        """The lines of flags.cfg: a flag file that repeats the experiment."""
        values = dataclasses.asdict(self)
        return "".join(
            f"--{name}={format_value(value)}\n"
            for name, value in values.items()
            if name not in ("run_dir", "data_dir") and value is not None
        )
