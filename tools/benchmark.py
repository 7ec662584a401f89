"""What a training step costs, beside plain Keras and beside its matrix products alone.

    python -m tools.benchmark --flagfile=flags/lenet.cfg

Measures in one process, taking turns; run nothing beside it.
"""

import csv
import statistics

from absl import flags

from lottery_tf import command, datasets, quiet

STEPS = flags.DEFINE_integer("steps", 1000, "Training steps per repeat.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 7, "Repeats of each way, after one warm-up.")
CSV = flags.DEFINE_string("csv", "benchmark.csv", "Where every repeat is written.")
ROUNDS = flags.DEFINE_bool(
    "round_overhead", True, "Also run two whole rounds: what of them is not training steps?"
)


def main(config):
    datasets.find(config)
    quiet.import_tensorflow()
    from lottery_tf import benchmarks

    times = benchmarks.step_times(config, steps=STEPS.value, repeats=REPEATS.value)
    engine = statistics.median(times["engine"])
    print(f"{'way':<16}  {'ms/step':>8}  {'least':>7}  {'most':>7}  {'engine = 1':>10}")
    for way, seconds in times.items():
        median = statistics.median(seconds)
        cells = [1000 * value for value in (median, min(seconds), max(seconds))]
        print(
            f"{way:<16}  {cells[0]:8.3f}  {cells[1]:7.3f}  {cells[2]:7.3f}  {median / engine:10.2f}"
        )
    with open(CSV.value, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["repeat", *times])
        for repeat, row in enumerate(zip(*times.values(), strict=True)):
            writer.writerow([repeat, *row])
    if ROUNDS.value:
        overhead = benchmarks.round_overhead(config)
        print(f"Of a whole round, {overhead:.1%} is not training steps.")


if __name__ == "__main__":
    command.define_config_flags()
    command.run(main, command.parse_config)
