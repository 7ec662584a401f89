"""Records what results depend on beside flags and data: versions and environment variables."""

import json
import os
import platform
import re

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from lottery_tf.config import environment as recorded
from lottery_tf.errors import InputError
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet
from lottery_tf.training.devices import Cluster

# Not all that begins with TF_: a password for Terraform does too.
CHANGES_NUMBERS = re.compile(
    r"(TF_(ALLOW|AUTO|CONV|CUBLAS|CUDNN|DETERMINISTIC|DISABLE|ENABLE|FORCE|FP16|GPU|LAYOUT|MATMUL|"
    r"MKL|MLIR|NUM|ONEDNN|OVERRIDE|USE|XLA)|XLA|KERAS|NVIDIA_TF32|CUBLAS|CUDNN|NCCL|ONEDNN|DNNL|"
    r"MKL|OMP|OPENBLAS)_\w+"
)
# The program refuses other backends, sets the settings that KERAS_HOME could hold, and records
# whether oneDNN computes, rather than what was asked for.
SETTLED = ("KERAS_BACKEND", "KERAS_HOME", quiet.ONEDNN)


def found() -> dict[str, str]:
    """Return {name: version or value} of this process."""
    versions = {
        "Python": platform.python_version(),
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "NumPy": np.__version__,
        recorded.ONEDNN: "on" if _pywrap_util_port.IsMklEnabled() else "off",
    }
    names = sorted(name for name in os.environ if CHANGES_NUMBERS.fullmatch(name))
    return versions | {name: os.environ[name] for name in names if name not in SETTLED}


def machine() -> str:
    """Return the processors and GPUs of this machine, in words."""
    try:
        with open("/proc/cpuinfo", errors="replace") as file:
            models = re.findall(r"^model name\s*: *(.*)$", file.read(), re.MULTILINE)
    except OSError:  # not Linux
        models = []
    words = f"{os.cpu_count()} cores of {(models or [platform.processor() or 'unknown'])[0]}"
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "?") for gpu in gpus]
    return ", ".join([words, *names])


def check_workers(cluster: Cluster) -> None:
    """Raise InputError on every worker if one computes without oneDNN, and the chief with it."""
    own = int(_pywrap_util_port.IsMklEnabled())
    chiefs = int(cluster.broadcast(lambda: {"onednn": np.array(own)})["onednn"])
    (others,) = cluster.sum(np.array([own != chiefs], np.int32))
    if others:
        raise InputError(
            f"{others} of {cluster.workers} workers compute convolutions otherwise than the chief, "
            f"which has oneDNN {('off', 'on')[chiefs]}. Set {quiet.ONEDNN}={chiefs} for all."
        )


def describe(environment: dict[str, str]) -> str:
    """Return an environment in one line."""
    return ", ".join(
        f"{name}={value}" if "_" in name else f"{name} {value}"
        for name, value in environment.items()
    )


def record(run: RunDir) -> list[str]:
    """Write environment.json of an open run; return a line per change since the last launch."""
    before, now = recorded.read(run.path), found()
    if before != now:
        path = run.path / recorded.ENVIRONMENT
        files.write_text(path, json.dumps(now, indent=0) + "\n")
    if not before:  # a new run, or one of an older version
        return []
    before.setdefault(recorded.ONEDNN, now[recorded.ONEDNN])  # an older version said nothing
    return [
        f"{name} was {before.get(name, 'not set')}, is now {now.get(name, 'not set')}: the numbers "
        "from here on may differ from those of the launch before"
        for name in (before | now)
        if before.get(name) != now.get(name)
    ]
