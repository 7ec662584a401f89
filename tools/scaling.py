"""Estimates step time and efficiency of data-parallel training, from FLOPs and bytes.

    python -m tools.scaling --gpus=1,8,32 --batch_sizes=1024,2048,4096,8192

It prints a table. Every number that it assumes is a flag: give those of your own machines.
"""

from absl import flags

from lottery_tf.config import command
from lottery_tf.errors import InputError

GPUS = flags.DEFINE_list(
    "gpus", ["1", "8", "32"], "Numbers of GPUs to estimate, separated by commas."
)
BATCHES = flags.DEFINE_list(
    "batch_sizes",
    ["1024", "2048", "4096", "8192"],
    "Global batch sizes to estimate, in examples, separated by commas.",
)
FLOPS = flags.DEFINE_float(
    "gflop",
    24.3,
    "GFLOP that an example takes forward and backward. Default: ResNet-50 at 224 x 224.",
)
PARAMETERS = flags.DEFINE_float(
    "parameters", 25.6e6, "Number of parameters to all-reduce, in 4 bytes each."
)
RATE = flags.DEFINE_float(
    "tflops", 62.0, "TFLOP/s that a GPU sustains. Default: 20% of the peak of an A100 in bfloat16."
)
PER_HOST = flags.DEFINE_integer("gpus_per_host", 8, "Number of GPUs in a host.")
INSIDE = flags.DEFINE_float(
    "inside_gbytes", 200.0, "GB/s that the GPUs of a host exchange (NVLink)."
)
BETWEEN = flags.DEFINE_float(
    "between_gbytes", 10.0, "GB/s that hosts exchange (100 Gbit/s Ethernet)."
)
NORMS = flags.DEFINE_integer(
    "batch_norms", 53, "Number of BatchNorm layers that --sync_bn synchronises."
)
INSIDE_LATENCY = flags.DEFINE_float(
    "inside_us", 30.0, "Microseconds that a small all-reduce takes within a host."
)
BETWEEN_LATENCY = flags.DEFINE_float(
    "between_us", 100.0, "Microseconds that a small all-reduce takes between hosts."
)
REDUCTIONS = 6  # per BatchNorm and step: sum, sum of squares, count; and their gradients


# Of whatever a flag counts: far beyond any machine, within what floats can divide.
LEAST, MOST = 1e-15, 1e15


def check_numbers() -> tuple[list[int], list[int]]:
    """Return (--batch_sizes, --gpus), once every number is checked.

    Raises:
        InputError: a number that is none, or out of bounds.
    """
    for flag in (FLOPS, PARAMETERS, RATE, PER_HOST, INSIDE, BETWEEN):
        _check_number(flag, LEAST)
    for flag in (NORMS, INSIDE_LATENCY, BETWEEN_LATENCY):
        _check_number(flag, 0)
    return _counts(BATCHES), _counts(GPUS)


def _check_number(flag: flags.FlagHolder, least: float) -> None:
    if not least <= flag.value <= MOST:
        raise InputError(
            f"--{flag.name}: expected a number from {least:g} to {MOST:g}. Received: {flag.value}"
        )


def _counts(flag: flags.FlagHolder) -> list[int]:
    try:
        counts = [int(text) for text in flag.value]
    except ValueError:
        counts = []
    if not counts or not all(0 < count <= MOST for count in counts):
        raise InputError(
            f"--{flag.name}: expected numbers above 0, with commas. Received: "
            f"{','.join(flag.value) or 'none'}"
        )
    return counts


def step_seconds(gpus: int, batch: int) -> tuple[float, float, float]:
    """Return the seconds of a step: computing, all-reduce of the gradients, synchronised BatchNorm.

    The gradients travel in a ring after the backward pass, without overlap: each GPU sends
    2 (n - 1) / n of their bytes through its slowest link.
    """
    compute = batch / gpus * FLOPS.value / 1e3 / RATE.value
    if gpus == 1:
        return compute, 0.0, 0.0
    several = gpus > PER_HOST.value
    link = BETWEEN.value if several else INSIDE.value
    reduce = 2 * (gpus - 1) / gpus * 4 * PARAMETERS.value / (link * 1e9)
    latency = BETWEEN_LATENCY.value if several else INSIDE_LATENCY.value
    return compute, reduce, NORMS.value * REDUCTIONS * latency / 1e6


def main(_: object) -> None:
    batches, numbers = check_numbers()
    print("batch   GPUs  compute  reduce  sync BN  step ms  images/s  efficiency, and without sync")
    for batch in batches:
        for gpus in numbers:
            compute, reduce, norms = step_seconds(gpus, batch)
            step = compute + reduce + norms
            print(
                f"{batch:5d}  {gpus:5d}  {1e3 * compute:7.1f}  {1e3 * reduce:6.1f}  "
                f"{1e3 * norms:7.1f}  {1e3 * step:7.1f}  {batch / step:8.0f}  "
                f"{compute / step:10.0%} {compute / (compute + reduce):11.0%}"
            )


if __name__ == "__main__":
    command.run(main)
