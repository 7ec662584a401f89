"""TensorBoard's event files without TensorFlow."""

import io
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

Value = Any  # summary_pb2.Summary.Value


def write(directory: pathlib.Path, name: str, *, scalars: Mapping[str, Sequence[tuple[int, float]]],
          images: Mapping[str, tuple[int, pathlib.Path]],
          about: Mapping[str, str] | None = None) -> None:  # fmt: skip
    """Writes an event file, in place of an earlier one of the same name.

    Args:
        directory: of a run's events.
        name: what the file is about, the end of its name.
        scalars: {tag: [(step, value)]}; values that are not finite are left out.
        images: {tag: (step, path of a PNG)}.
        about: {tag of scalars: what TensorBoard says of them}.
    """
    values = [
        (step, scalar(tag, value, (about or {}).get(tag, "")))
        for tag, points in scalars.items()
        for step, value in points
        if np.isfinite(value)
    ]
    values += [(step, image(tag, path)) for tag, (step, path) in images.items()]
    replace(directory, f".analysis_{name}", values)


def replace(directory: pathlib.Path, suffix: str, values: Iterable[tuple[int, Value]]) -> None:
    """Writes an event file of (step, value), in place of those whose names end alike."""
    leftovers = list(directory.glob(f"events.*{suffix}"))
    path = new_file(directory, suffix)
    append(path, values)
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)  # another process may replace it, too


def new_file(directory: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """The path of an event file that is to be written."""
    # TensorBoard reads files in the order of their names, and never goes back to an earlier one.
    return directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}{suffix}"


def append(path: pathlib.Path, values: Iterable[tuple[int, Value]]) -> None:
    """Adds (step, value) to an event file, or begins it: all of them or, on an OSError, none."""
    now = time.time()
    events = [
        event_pb2.Event(wall_time=now, step=step, summary=summary_pb2.Summary(value=[value]))
        for step, value in values
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_size if path.exists() else 0
    if not before:
        events.insert(0, event_pb2.Event(wall_time=now, file_version="brain.Event:2"))
    records = io.BytesIO()
    for event in events:
        RecordWriter(records).write(event.SerializeToString())
    try:
        with open(path, "ab") as file:
            file.write(records.getvalue())
    except OSError:
        # Behind half a record, as a full disk leaves it, TensorBoard reads nothing.
        if path.is_file():
            os.truncate(path, before)
        raise


def scalar(tag: str, value: float, about: str = "") -> Value:
    """A number, and what TensorBoard says of it."""
    metadata = scalar_metadata.create_summary_metadata(display_name=tag, description=about)
    return _value(
        tag, tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value]), metadata
    )


def text(tag: str, words: str) -> Value:
    """A line of text."""
    metadata = text_metadata.create_summary_metadata(display_name=tag, description="")
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[words.encode()])
    return _value(tag, tensor, metadata)


def histogram(tag: str, counts: np.ndarray, edges: np.ndarray) -> Value:
    """A histogram: counts (bins,) between edges (bins + 1,)."""
    bins = np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)  # (bins, 3)
    metadata = histogram_metadata.create_summary_metadata(display_name=tag, description="")
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_DOUBLE, tensor_content=bins.tobytes(), tensor_shape=_shape(*bins.shape)
    )
    return _value(tag, tensor, metadata)


def image(tag: str, path: pathlib.Path) -> Value:
    """The picture that a PNG file holds."""
    png = pathlib.Path(path).read_bytes()
    size = struct.unpack(">2I", png[16:24])  # width and height stand in a PNG's first chunk
    metadata = image_metadata.create_summary_metadata(
        display_name=tag, description="", converted_to_tensor=None
    )
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[*(str(length).encode() for length in size), png],
        tensor_shape=_shape(3),
    )
    return _value(tag, tensor, metadata)


def _shape(*sizes):
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in sizes]
    return tensor_shape_pb2.TensorShapeProto(dim=dims)


def _value(tag, tensor, metadata):
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
