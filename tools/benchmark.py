"""Measures the time of a step, of masks in `fit`, of streaming, repulsion, distances or runs.

    python -m tools.benchmark --flagfile=flags/lenet.cfg
    python -m tools.benchmark --what=input --flagfile=flags/resnet50.cfg
    python -m tools.benchmark --what=repel --flagfile=flags/lenet_repel.cfg
    python -m tools.benchmark --what=distances
    python -m tools.benchmark --what=fit
    python -m tools.benchmark --what=masks
    python -m tools.benchmark --what=sparse_products
    python -m tools.benchmark --what=sweep --flagfile=flags/lenet.cfg --repeats=3

It measures in turns, in one process (with --what=sweep in one per run). Run nothing beside it.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence

from absl import flags

from lottery_tf import datasets
from lottery_tf.benchmarks import peers
from lottery_tf.config import Config, command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.plots import Row, tables
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

from . import shared

WORTH_IT = 60  # seconds that two whole rounds may take unasked


def step(config: Config) -> list[Row]:
    from lottery_tf.benchmarks import steps

    times = steps.step_times(config, steps=STEPS.value, repeats=REPEATS.value)
    rows = report(times, unit="ms/step", scale=1000)
    median = statistics.median(times["engine"])
    print(f"The engine trains on {config.batch_size / median:.0f} images/s.")
    seconds = steps.seconds_of_rounds(config, median)
    if ROUNDS.value or (ROUNDS.value is None and seconds < WORTH_IT):
        parts = steps.round_parts(config)
        shares = {part: seconds / sum(parts.values()) for part, seconds in parts.items()}
        others = ", ".join(f"{part} {shares[part]:.1%}" for part in parts if part != "training")
        print(f"Of a whole round, {1 - shares['training']:.1%} is not training steps: {others}.")
    elif ROUNDS.value is None:
        print(
            f"Two whole rounds would take about {seconds / 60:.0f} minutes: --round_overhead runs "
            "them, to tell what of them is not training steps."
        )
    return rows


def stream(config: Config) -> list[Row]:
    from lottery_tf.benchmarks import input

    rates, peak = input.input_rates(config, images=IMAGES.value, repeats=REPEATS.value)
    rows = report(rates, unit="images/s")
    print(f"Peak memory while streaming: {peak / 1e6:.0f} MB.")
    return rows


def all_distances(_: Config) -> list[Row]:
    from lottery_tf.benchmarks import distances

    times, peak = distances.distance_times(rounds=26, repeats=REPEATS.value)
    rows = report(times, unit="s")
    print(f"Peak memory: {peak / 1e6:.0f} MB.")
    return rows


def runs_at_once(config: Config) -> list[Row]:
    from lottery_tf.benchmarks import sweep

    return report(sweep.step_rates(config, repeats=REPEATS.value), unit="steps/s")


def fits(_: Config) -> list[Row]:
    from lottery_tf.benchmarks import fits

    times, added = fits.fit_times(steps=STEPS.value, repeats=REPEATS.value)
    rows = []
    for network, ways in times.items():
        print(f"{network}: rounds adds {added[network]:.3f} s to a round")
        rows += [{"network": network} | row for row in report(ways, unit="ms/step", scale=1000)]
    return rows


def masked_steps(_: Config) -> list[Row]:
    from lottery_tf.benchmarks import fits

    times = fits.step_times(steps=STEPS.value, repeats=REPEATS.value)
    return report(times, unit="ms/step", scale=1000)


def products(_: Config) -> list[Row]:
    from lottery_tf.benchmarks import sparse_products

    rows = []
    found = sparse_products.product_times(repeats=REPEATS.value)
    columns = [f"{way} µs (least to most)" for way in next(iter(found.values()))]
    print(f"{'layer':<8}  density  batch" + "".join(f"  {column:>28}" for column in columns))
    for (layer, density, batch), times in found.items():
        cells = [
            f"{1e6 * statistics.median(of):.0f} ({1e6 * min(of):.0f} to {1e6 * max(of):.0f})"
            for of in times.values()
        ]
        print(
            f"{layer:<8}  {density:7.2%}  {batch:5d}" + "".join(f"  {cell:>28}" for cell in cells)
        )
        of_case = {"layer": layer, "density": density, "batch": batch}
        rows += [of_case | row for row in by_repeat(times)]
    return rows


def repel(config: Config) -> list[Row]:
    from lottery_tf.benchmarks import repulsion

    print("round  KB of values   of dense  KB of index   of dense")
    for round, (values, index, dense) in repulsion.held_bytes(config, rounds=25).items():
        print(
            f"{round:5d}  {values / 1e3:12.0f}  {values / dense:9.2f}  {index / 1e3:11.0f}  "
            f"{index / dense:9.2f}"
        )
    print(
        "round  without ms  + gather  + products  + combination  + scatter    with  ratio  compile"
    )
    rounds, counts = (1, 5, 12, 24), {"steps": STEPS.value, "repeats": REPEATS.value}
    rows = []
    for round, found in repulsion.step_times(config, rounds=rounds, **counts).items():
        compiling = found.pop("compile")
        ms = [1e3 * statistics.median(seconds) for seconds in found.values()]
        parts = [after - before for before, after in itertools.pairwise(ms)]
        print(
            f"{round:5d}  {ms[0]:10.3f}  {parts[0]:8.3f}  {parts[1]:10.3f}  {parts[2]:13.3f}  "
            f"{parts[3]:9.3f}  {ms[-1]:6.3f}  {ms[-1] / ms[0]:5.2f}  {compiling:9.1f}"
        )
        rows += [{"round": round} | row for row in by_repeat(found)]
    return rows


def by_repeat(values: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return rows of {repeat, way: value, …}."""
    return [
        {"repeat": repeat} | dict(zip(values, row, strict=True))
        for repeat, row in enumerate(zip(*values.values(), strict=True))
    ]


def report(values: Mapping[str, list[float]], *, unit: str, scale: int = 1) -> list[Row]:
    """Print medians, extremes and ratios to the first way; return rows of every repeat."""
    first = statistics.median(next(iter(values.values())))
    digits = 3 if scale > 1 else 0
    print(f"{'way':<16}  {unit:>8}  {'least':>7}  {'most':>7}  {'ratio':>6}")
    for way, repeats in values.items():
        median = statistics.median(repeats)
        cells = ((median, 8), (min(repeats), 7), (max(repeats), 7))
        numbers = "".join(f"{scale * value:{width}.{digits}f}  " for value, width in cells)
        print(f"{way:<16}  {numbers}{median / first:6.2f}")
    return by_repeat(values)


BENCHMARKS = {
    "step": step,
    "input": stream,
    "repel": repel,
    "distances": all_distances,
    "fit": fits,
    "masks": masked_steps,
    "sparse_products": products,
    "sweep": runs_at_once,
}
WHAT = flags.DEFINE_enum("what", "step", [*BENCHMARKS], "What to measure.")
STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Training steps in a repeat. Default: as many as take about 2 seconds, at most 1000.",
    lower_bound=1,
)
IMAGES = flags.DEFINE_integer("images", 4096, "Images in a repeat of --what=input.", lower_bound=1)
REPEATS = flags.DEFINE_integer(
    "repeats", 7, "Number of repeats of each way, after one warm-up.", lower_bound=1
)
CSV = define_path(
    "csv",
    None,
    "File that receives the values of every repeat. Default: benchmark_<what>.csv in "
    "--out_dir, or in analysis/ of --run_dir.",
)
ROUNDS = flags.DEFINE_bool(
    "round_overhead",
    None,
    "Also run two whole rounds, to see what else than training steps takes time. Default: do "
    "so if they take less than a minute.",
)


def main(config: Config) -> None:
    what, output = WHAT.value, shared.output()
    # Known before the minutes of measuring.
    path = shared.file_to_write(
        CSV,
        output,
        RunDir(config.run_dir),
        f"benchmark_{what}.csv",
        "table of tools.benchmark",
        lambda content: b"repeat" in content.partition(b"\n")[0].split(b","),
    )
    if what in ("step", "input", "repel"):
        data = datasets.find(config)
        if what == "input" and (data.one_size or data.pixels != "uint8"):
            raise InputError(
                f"--what=input expects JPEG images of varying size. Those of {config.dataset} are: "
                f"{data.fields.image}."
            )
    if what == "step":
        peers.load()
    if what not in ("distances", "sweep"):
        quiet.import_tensorflow()
    output.write_table(path, BENCHMARKS[what](config))
    tables.show_written(output.written)


if __name__ == "__main__":
    shared.define("out_dir")
    command.define_config_flags()
    command.run(main, command.parse_config)
