"""Reads and prints the report of an export. It imports no framework."""

import json
import pathlib
from collections.abc import Iterator

from lottery_tf.errors import InputError
from lottery_tf.plots import Row, tables

REPORT = "export.json"
TIMES = "timing.json"  # of one machine at one time
LAYERS = {
    "path": ("layer", "{}"),
    "weights": ("weights", "{:,}"),
    "alive": ("alive", "{:,}"),
    "density": ("density", "{:.2%}"),
}
SPARSE = {
    "layer": ("layer", "{}"),
    "density": ("density", "{:.2%}"),
    "dense_ms": ("dense ms", "{:.3f}"),
    "coo_ms": ("COO ms", "{:.3f}"),
    "csr_ms": ("CSR ms", "{:.3f}"),
    "product": ("used", "{}"),
}


def read(directory: pathlib.Path) -> Row:
    """Read the report of an export.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = directory / REPORT
    try:
        report = json.loads(path.read_text("utf-8"))
        if isinstance(report, dict) and {"format", "layers", "bytes"} <= report.keys():
            path = directory / TIMES
            return report | (json.loads(path.read_text("utf-8")) if path.exists() else {})
    except OSError as error:
        raise InputError(f"--info={directory}: cannot read {path}: {error.strerror}.") from None
    except ValueError:
        pass
    raise InputError(f"--info={directory}: {path} is damaged. Export the ticket again.")


def show(report: Row) -> None:
    """Print what was exported, its size, multiply-adds, times and accuracy."""
    name = f"{report['run']}, round {report['round']}" if "run" in report else report["model"]
    print(f"{name}, as {report['format']}")
    if chosen := report.get("chosen"):
        print(f"round {report['round']} is {chosen}")
    tables.show(report["layers"], LAYERS)
    if rows := report.get("sparse_products"):
        tables.show(rows, SPARSE)
    for line in report.get("compaction", {}).get("lines", ()):
        print(line)
    for line in _lines(report):
        print(line)


def _lines(report: Row) -> Iterator[str]:
    """Yield the lines below the tables."""
    size, count = report["bytes"], report["products"]
    weights = f", weights.bin {size['weights']:,}" if "weights" in size else ""
    yield (
        f"bytes: {size['export']:,} (gzip {size['export_gzip']:,}){weights}; entropy bound "
        f"{size['entropy_bound']:,}; dense {size['dense']:,} (gzip {size['dense_gzip']:,})"
    )
    if made := report.get("compiled"):
        names = [name for name in ("text", "data", "scratch") if made[name] is not None]
        parts = ", ".join(f"{made[name]:,} bytes of {name}" for name in names)
        yield f"compiled: {parts}; {made['version']}, {made['flags']}, {made['cpu']}"
    yield (
        f"multiply-adds for an example: {count['written']:,}; of weights alive "
        f"{count['alive']:,}; dense {count['dense']:,}"
    )
    for name, reason in count.get("not_counted", {}).items():
        yield f"multiply-adds of {name} are not counted: {reason}"
    for batch, times in report.get("milliseconds", {}).items():
        ratio = times["dense"] / times["export"]
        yield (
            f"batch {batch}: {times['export']:.3f} ms; dense {times['dense']:.3f} ms "
            f"({ratio:.2f} times as fast)"
        )
    if "accuracy_before" in report:
        yield (
            f"accuracy: {report['accuracy_after']:.2%}; masked {report['accuracy_before']:.2%}; "
            f"{report['other_predictions']} of {report['compared_examples']:,} predictions differ"
        )
    yield f"largest difference of an output: {report['largest_difference']:.1e}"
