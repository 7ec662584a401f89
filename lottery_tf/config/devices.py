"""Where and how to compute."""

import dataclasses

from lottery_tf.config.fields import flag


@dataclasses.dataclass(frozen=True)
class DeviceFlags:
    """Flags of devices, checkpoints and compilation."""

    strategy: str = flag(
        "auto",
        "Where to compute: on one device; mirrored on all GPUs of the machine (or on "
        "--cpu_devices); on the workers that TF_CONFIG or Slurm names. auto: the most of these "
        "that there is.",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
        how=True,
    )
    cpu_devices: int = flag(
        1,
        "Logical devices to make of the CPU, to try --strategy=mirrored without GPUs.",
        at_least=1,
        below=1025,
        how=True,
    )
    sync_bn: bool = flag(
        True,
        "Where there are several replicas: BatchNorm's statistics are those of the whole batch, "
        "not of each replica's part.",
    )
    shard_files: bool = flag(
        False,
        "With several workers and --resident=off: each reads its own shards alone, which reads "
        "less, but makes the order depend on the number of workers.",
    )
    worker_timeout: float = flag(
        600.0,
        "Seconds without an answer after which another worker counts as lost; longer than the "
        "chief takes to save a round.",
        above=0,
        how=True,
    )
    checkpoint_minutes: float = flag(
        5.0,
        "Minutes between checkpoints inside a round; 0: none but on SIGTERM, SIGHUP and Ctrl-C.",
        at_least=0,
        how=True,
    )
    deterministic: bool = flag(
        False,
        "Let TensorFlow use deterministic operations alone: the same run again, on the same kind "
        "of machine with as many devices, gives the same bits.",
        how=True,
    )
    jit_compile: str = flag(
        "auto",
        "Compile the epoch with XLA. auto: on, except with several replicas and for convolutions "
        "on a CPU.",
        choices=("auto", "on", "off"),
        how=True,
    )
    resident: str = flag(
        "auto",
        "Keep the training split in device memory. auto: if it takes under 2 GB.",
        choices=("auto", "on", "off"),
        how=True,
    )
