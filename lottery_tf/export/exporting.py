"""Writes a ticket in a format, compares what was written with the masked model, and measures it."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import formats, fresh, measuring
from lottery_tf.export.choices import Choices
from lottery_tf.export.options import Options
from lottery_tf.export.reports import REPORT
from lottery_tf.export.ticket import Ticket
from lottery_tf.masking import keras_generators
from lottery_tf.plots import Row
from lottery_tf.runs import files

TOLERANCE = 1e-4  # of the largest output, or of 1: how far an output may be from the masked model's
LOSSY = {"float16": 1e-2, "int8": None}  # None: what counts is the accuracy
INT8_POINTS = 0.005  # of the examples, that int8 may answer otherwise


def export(ticket: Ticket, out: pathlib.Path, choices: Choices) -> Row:
    """Writes a ticket into a directory that is seen whole or not at all.

    Returns:
        The report, which is `export.json` in the directory too.

    Raises:
        InputError: what was written does not run, or gives other outputs than the masked model;
            the directory is not there then.
    """
    with keras_generators.kept():
        keras.config.set_dtype_policy("float32")  # of the layers around the network
        return _export(ticket, out, choices)


def _export(ticket, out, choices):
    ticket = _of_size(ticket, choices.format)
    report: dict[str, Any] = {"format": choices.format, **ticket.provenance}
    plain, model, parts = _prepared(ticket, choices)
    report |= parts
    options = _options(ticket, choices)
    expected = reference(ticket)
    with _aside(out) as aside:
        written, dense = aside / "export", aside / "dense"
        for directory, of, how in (
            (written, _raw(ticket, model), options),
            (dense, _raw(ticket, masking.unmasked(ticket.masked)), _as_dense(options)),
        ):
            directory.mkdir()
            formats.write(choices.format, of, directory, how)
        report |= _compare(ticket, written, choices, expected)
        report |= measuring.of(ticket, plain, written, dense, choices.format)
        (written / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        _put(written, out)
    return report


def _of_size(ticket, format):
    """The ticket whose raw images have the network's size, if the format cannot crop them."""
    images = ticket.images
    if not (images and images.any_size) or format == "saved_model":
        return ticket
    test, calibration = (
        {"images": images.cropped(inputs["images"])} for inputs in (ticket.test, ticket.calibration)
    )
    images = dataclasses.replace(images, any_size=False)
    return dataclasses.replace(ticket, images=images, test=test, calibration=calibration)


def _prepared(ticket, choices):
    """(the plain network, the same with sparse products, what was done to it)."""
    plain, report = masking.unmasked(ticket.masked), {}
    if choices.compact:
        from lottery_tf.export.compaction import compact

        plain, done = compact(plain)
        report["compaction"] = done.as_dict()
    if choices.sparse_matmul == "auto":
        from lottery_tf.export import sparse_products

        model, report["sparse_products"] = sparse_products.replace(plain, choices.batch_size)
        return plain, model, report
    return plain, plain, report


def _raw(ticket, plain):
    return ticket.images.before(plain) if ticket.images else plain


def _options(ticket, choices):
    """The Options of a format's function."""
    assets = {"provenance.json": json.dumps(ticket.provenance, indent=1) + "\n"}
    if ticket.classes:
        assets["classes.txt"] = "".join(f"{name}\n" for name in ticket.classes)
    return Options(
        quantize=choices.quantize,
        dense=choices.dense,
        calibration=lambda: ticket.calibration,
        assets=assets,
        images=ticket.images is not None,
        crop_to=ticket.images.shape[0] if ticket.images and ticket.images.any_size else 0,
    )


def _as_dense(options):
    return dataclasses.replace(options, dense=True, quantize="none")


def reference(ticket: Ticket) -> dict[str, Any]:
    """{output: array} of the masked model for the ticket's test inputs."""
    from lottery_tf.export import signatures

    model = ticket.masked
    names = signatures.input_names(model)
    count, found = len(next(iter(ticket.test.values()))), []
    for start in range(0, count, 500):
        rows = {name: array[start : start + 500] for name, array in ticket.test.items()}
        if ticket.images:
            rows = dict(zip(names, [ticket.images.normalised(rows["images"])], strict=True))
        given = model(signatures.packed(model, rows), training=False)
        outputs = signatures.outputs(model, given, of_run=ticket.images is not None)
        found.append({name: np.asarray(tensor) for name, tensor in outputs.items()})
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _compare(ticket, directory, choices, expected):
    """What the export gives in a fresh process, against the masked model; as rows of the report."""
    found = fresh.run(choices.format, directory, ticket.test)
    allowed = LOSSY.get(choices.quantize, TOLERANCE)
    report: Row = {"compared_examples": len(next(iter(ticket.test.values())))}
    worst = 0.0
    for name, array in expected.items():
        if name == "probabilities" and choices.format in fresh.LOGITS_ALONE:
            continue
        if name not in found:
            raise InputError(f"The export does not give {name}: {', '.join(found)}.")
        scale = max(1.0, float(np.abs(array).max()))
        difference = float(np.abs(found[name] - array).max()) / scale
        worst = float(np.maximum(worst, difference))  # NaN stays
    report["largest_difference"] = worst
    if ticket.labels is not None:
        answers = {"before": expected["logits"], "after": found["logits"]}
        for name, logits in answers.items():
            report[f"accuracy_{name}"] = float((logits.argmax(-1) == ticket.labels).mean())
        report["other_predictions"] = int(
            (expected["logits"].argmax(-1) != found["logits"].argmax(-1)).sum()
        )
        lost = report["accuracy_before"] - report["accuracy_after"]
        if allowed is None and lost > INT8_POINTS:
            raise InputError(f"The export loses {lost:.2%} of accuracy by {choices.quantize}.")
    if not np.isfinite(worst) or (allowed is not None and worst > allowed):
        raise InputError(
            f"The export gives other outputs than the masked model: {worst:.2g} of the largest, "
            f"expected at most {allowed:.2g}. Nothing was written."
        )
    return report


@contextmanager
def _aside(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory beside `out`, of the same file system; removed in the end."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _put(written, out):
    """Renames what was written; of an export that it replaces, nothing stays."""
    for path in (*written.rglob("*"), written):
        files.sync(path)
    try:
        if out.exists():
            out.rename(written.parent / "before")
        written.rename(out)
    except OSError as error:  # as where another process writes there, too
        raise InputError(f"Cannot write {out}: {error.strerror}. Use another --out.") from None
    files.sync(out.absolute().parent)
