"""From a finished run to an engine that evaluates and trains its network. Imports TensorFlow."""

from absl import flags

from lottery_tf import datasets
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.terminal import quiet

DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Directory that holds the prepared datasets. Default: the run's."
)
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", ["auto", "one_device", "mirrored"], "Where to compute, on one machine."
)
JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile", "auto", ["auto", "on", "off"], "Compile with XLA. auto: as training does."
)


def config_of(run):
    """The Config of a run, with the flags that say how to compute taken from the command line.

    Raises:
        InputError: its record is not as this version writes it, or the dataset is not there.
    """
    recorded = run.config()
    changes = {
        "run_dir": str(run.path),
        "data_dir": DATA_DIR.value or recorded["data_dir"],
        "strategy": STRATEGY.value,
        "jit_compile": JIT_COMPILE.value,
    }
    try:
        return Config.recorded(recorded, **changes)
    except TypeError as error:
        raise InputError(f"{run.path}/config.json: {error}") from None


def engine_of(run):
    """The Engine of a run, on one machine."""
    config = config_of(run)
    directory = datasets.find(config)
    quiet.import_tensorflow()
    from lottery_tf.training.devices import connect
    from lottery_tf.training.engine import Engine

    cluster = connect(config)
    if cluster.workers > 1:
        raise InputError("This tool runs on one machine. Unset TF_CONFIG, or name --strategy.")
    return Engine(config, directory, cluster)
