"""An experiment that also saves what every replica holds at its end; in float64 if FLOAT64 is set.

python -m tests.dump_replicas --run_dir=… …    # <run_dir>/../replica_<index>.npz
"""

import os
import pathlib

import numpy as np

from lottery_tf import datasets, imp, models
from lottery_tf.config import command
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet


def main(config):
    directory = datasets.find(config)
    quiet.import_tensorflow()
    from lottery_tf import masking
    from lottery_tf.training.devices import connect
    from lottery_tf.training.engine import Engine

    if "FLOAT64" in os.environ:
        compute_in_float64()
    cluster = connect(config)
    engine = Engine(config, directory, cluster)
    run = RunDir(config.run_dir)
    if cluster.is_chief:
        with run.open(config):
            imp.experiment(config, run, engine)
    else:
        imp.experiment(config, run, engine)
    held = {f"weights/{path}": v for path, v in masking.variables(engine.network).items()}
    held |= {f"masks/{path}": k.mask for path, k in masking.kernels(engine.network).items()}
    for here in range(cluster.replicas_here):
        arrays = {
            name: cluster.strategy.experimental_local_results(variable.value)[here].numpy()
            for name, variable in held.items()
        }
        replica = cluster.worker * cluster.replicas_here + here
        np.savez(pathlib.Path(config.run_dir).parent / f"replica_{replica}.npz", **arrays)
    cluster.sum(np.zeros(1, np.int32))  # nobody leaves before all are done


def compute_in_float64():
    """Where rounding cannot flip a ReLU, equal algorithms give equal weights."""
    import keras

    from lottery_tf.models import layers

    keras.config.set_floatx("float64")
    models.POLICIES["off"] = "float64"
    layers.FusedBatchNormalization = keras.layers.BatchNormalization  # that is for float32 alone


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, command.parse_config)
