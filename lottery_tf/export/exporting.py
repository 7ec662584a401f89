"""Writes a ticket in a format, compares the export with the masked model, and measures it."""

import dataclasses
import gzip
import json
import pathlib
import tempfile

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import (
    card,
    coding,
    flops,
    formats,
    fresh,
    published,
    runner,
    signatures,
    sparse_products,
)
from lottery_tf.export.compaction import compact
from lottery_tf.export.formats import FORMATS, Choices, Options
from lottery_tf.export.report import REPORT, TIMES
from lottery_tf.export.ticket import Ticket
from lottery_tf.masking import keras_generators
from lottery_tf.plots import Row
from lottery_tf.pruning import Array
from lottery_tf.runs import files
from lottery_tf.terminal import console

# The largest difference of an output from the masked model's, as a part of its largest value or of
# 1. Of int8 the accuracy counts, too.
TOLERANCE = {"none": 1e-4, "float16": 1e-2, "int8": 0.5}
INT8_POINTS = 0.005  # of the accuracy, that int8 may lose
BATCHES = (1, 128)  # whose calls are timed


def export(ticket: Ticket, out: pathlib.Path, choices: Choices) -> Row:
    """Write a ticket into a directory, which appears complete or not at all.

    Returns:
        The report, which is `export.json` in the directory too.

    Raises:
        InputError: the export does not run, or its outputs differ from the masked model's.
            Then no directory is written.
    """
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    beside = tempfile.TemporaryDirectory(  # on the same file system
        prefix=f".{out.name}.", dir=parent, ignore_cleanup_errors=True
    )
    within = fresh.started(choices.format)
    with keras_generators.kept(), beside as place, within, console.Stages() as stages:
        keras.config.set_dtype_policy("float32")  # of the layers around the network
        if not FORMATS[choices.format].crops:
            ticket = ticket.of_one_size()
        ticket = dataclasses.replace(ticket, provenance=ticket.provenance | _stated(choices))
        report: Row = {"format": choices.format, **ticket.provenance}
        plain = compacted = masking.unmasked(ticket.masked)
        if choices.compact:
            compacted, done = compact(plain)
            report["compaction"] = done.as_dict()
        model = compacted
        if choices.sparse_matmul == "auto":
            stages.begin("Timing dense and sparse products of each layer")
            fresh.wait(choices.format)
            model, report["sparse_products"] = sparse_products.replace(
                compacted, choices.batch_size
            )
        expected = reference(ticket)
        options = _options(ticket, choices)
        as_dense = dataclasses.replace(options, dense=True, quantize="none")
        stages.begin(f"Writing {choices.format}, and a dense one to compare with")
        written, dense = pathlib.Path(place, "export"), pathlib.Path(place, "dense")
        for directory, network, how in ((written, model, options), (dense, plain, as_dense)):
            directory.mkdir()
            taking_raw = ticket.images.before(network) if ticket.images else network
            told = formats.write(choices.format, taking_raw, directory, how)
            if directory == written:
                report |= told
        stages.begin("Comparing it with the masked model in a fresh process")
        report |= _compare(ticket, written, choices, expected)
        report["layers"] = [
            {
                "path": path,
                "weights": mask.size,
                "alive": int(mask.sum()),
                "density": float(mask.mean()),
            }
            for path, mask in masking.get_masks(ticket.masked).items()
        ]
        report["bytes"] = sizes(ticket.masked, written, dense)
        report["products"] = products(plain, compacted)
        times: Row = {}
        if choices.time:
            stages.begin("Timing calls of both there")
            times["milliseconds"] = milliseconds(ticket, written, dense, choices.format)
            # In a file of their own: all others are the same bytes in two exports.
            (written / TIMES).write_text(json.dumps(times, indent=1) + "\n")
        (written / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        if choices.card:
            _publish(ticket, written, report)
        _put(written, out)
    return report | times


def _stated(choices: Choices) -> Row:
    """Return the user's statements about an export, and its date."""
    return {
        "date": formats.date_of(choices.date),
        "license": choices.license,
        "intended_use": choices.intended_use,
    }


def _publish(ticket: Ticket, written: pathlib.Path, report: Row) -> None:
    """Write the model card above a format's README, and the ticket beside a Keras repository.

    This package trains the ticket again.
    """
    readme = written / card.FILE_NAME
    before = f"\n{readme.read_text('utf-8')}" if readme.exists() else ""
    readme.write_text(card.card(report) + before, "utf-8")
    if FORMATS[report["format"]].repository:
        found = published.of_network(ticket.masked, ticket.provenance, ticket.source)
        found.save(written / published.FILE)


def _options(ticket: Ticket, choices: Choices) -> Options:
    """Return what the format's `write` gets besides the model."""
    assets = {"provenance.json": json.dumps(ticket.provenance, indent=1) + "\n"}
    if ticket.classes:
        assets["classes.txt"] = "".join(f"{name}\n" for name in ticket.classes)
    return Options(
        quantize=choices.quantize,
        dense=choices.dense,
        calibration=ticket.calibration,
        assets=assets,
        images=ticket.images is not None,
        repository=choices.card and FORMATS[choices.format].repository,
        date=ticket.provenance["date"],
        normalisation=ticket.images.words if ticket.images else "",
        crop_to=ticket.images.shape[0] if ticket.images and ticket.images.any_size else 0,
    )


def reference(ticket: Ticket) -> dict[str, Array]:
    """Return {output: array} of the masked model for the ticket's test inputs."""
    model, images = ticket.masked, ticket.images

    def call(rows: dict[str, Array]) -> dict[str, Array]:
        if images:
            rows = {signatures.input_names(model)[0]: images.normalised(rows["images"])}
        tensors = model(signatures.packed(model, rows), training=False)
        return signatures.outputs(model, tensors, of_run=images is not None)

    return runner.outputs(call, ticket.test, batch_size=500)


def _compare(
    ticket: Ticket, directory: pathlib.Path, choices: Choices, expected: dict[str, Array]
) -> Row:
    """Compare an export, in a fresh process, with the masked model; return rows of the report."""
    found = fresh.run(choices.format, directory, ticket.test, list(expected))
    allowed = TOLERANCE[choices.quantize]
    report: Row = {"compared_examples": len(next(iter(ticket.test.values())))}
    worst = 0.0
    for name, array in expected.items():
        if name == "probabilities" and FORMATS[choices.format].keras:
            continue
        if name not in found:
            raise InputError(f"The export does not give {name}: {', '.join(found)}.")
        scale = max(1.0, float(np.abs(array).max()))
        difference = float(np.abs(found[name] - array).max()) / scale
        worst = float(np.maximum(worst, difference))  # NaN stays
    report["largest_difference"] = worst
    if ticket.labels is not None:
        before, after = (outputs["logits"].argmax(-1) for outputs in (expected, found))
        report["accuracy_before"] = float((before == ticket.labels).mean())
        report["accuracy_after"] = float((after == ticket.labels).mean())
        report["other_predictions"] = int((before != after).sum())
        lost = report["accuracy_before"] - report["accuracy_after"]
        if choices.quantize == "int8" and lost > INT8_POINTS:
            raise InputError(f"The export loses {lost:.2%} of accuracy by {choices.quantize}.")
    if not (np.isfinite(worst) and worst <= allowed):
        raise InputError(
            f"The export gives other outputs than the masked model: {worst:.2g} of the largest, "
            f"expected at most {allowed:.2g}. Nothing was written."
        )
    return report


def sizes(network: keras.Model, written: pathlib.Path, dense: pathlib.Path) -> Row:
    """Return the bytes of an export and of a dense one, whole and deflated, and a lower bound.

    The bound counts the entropy of survivors and their places in pruned kernels, and other
    variables whole.
    """
    masks, bound = masking.get_masks(network), 0.0
    for path, array in masking.get_weights(network).items():
        alive = int(masks[path].sum()) if path in masks else array.size
        bound += coding.entropy_bound(alive, array.size, array.dtype.itemsize)
    row: Row = {"entropy_bound": round(bound)}
    for name, directory in (("export", written), ("dense", dense)):
        contents = [path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()]
        row[name] = sum(map(len, contents))
        row[f"{name}_gzip"] = len(gzip.compress(b"".join(contents), 9, mtime=0))
    weights = written / "assets" / "weights.bin"
    if weights.exists():
        row["weights"] = weights.stat().st_size
    return row


def products(plain: keras.Model, written: keras.Model) -> Row:
    """Return multiply-adds for one example: of all weights, of those alive, and of the export."""
    (before, unknown), (after, _) = map(flops.multiply_adds, (plain, written))
    all_weights, written_ones = flops.total(before), flops.total(after)
    row = {"dense": all_weights.dense, "alive": all_weights.sparse, "written": written_ones.dense}
    return row | ({"not_counted": unknown} if unknown else {})


def milliseconds(ticket: Ticket, written: pathlib.Path, dense: pathlib.Path, format: str) -> Row:
    """Return {batch size: {"export", "dense"}}: median times of a call, measured in turns."""
    row: Row = {}
    for batch in BATCHES:
        inputs = {name: np.resize(a, (batch, *a.shape[1:])) for name, a in ticket.test.items()}
        export, of_dense = fresh.time(format, [written, dense], inputs)
        row[str(batch)] = {"export": export, "dense": of_dense}
    return row


def _put(written: pathlib.Path, out: pathlib.Path) -> None:
    """Move the export to its place; the one that it replaces goes with the temporary directory."""
    for path in (*written.rglob("*"), written):
        files.sync(path)
    try:
        if out.exists():
            out.rename(written.parent / "before")
        written.rename(out)
    except OSError as error:  # as where another process writes there, too
        raise InputError(f"Cannot write {out}: {error.strerror}. Use another --out.") from None
    files.sync(out.absolute().parent)
