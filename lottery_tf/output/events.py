"""TensorBoard's event files without TensorFlow."""

import pathlib
import socket
import struct
import time
from collections.abc import Mapping, Sequence

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter


def write(directory: pathlib.Path, name: str, *, scalars: Mapping[str, Sequence[tuple[int, float]]],
          images: Mapping[str, tuple[int, pathlib.Path]]) -> None:  # fmt: skip
    """Writes an event file, in place of an earlier one of the same name.

    Args:
        directory: of a run's events.
        name: what the file is about, the end of its name.
        scalars: {tag: [(step, value)]}; values that are not finite are left out.
        images: {tag: (step, path of a PNG)}.
    """
    directory.mkdir(parents=True, exist_ok=True)
    now = time.time()
    events = [event_pb2.Event(wall_time=now, file_version="brain.Event:2")]
    for tag, points in scalars.items():
        metadata = scalar_metadata.create_summary_metadata(display_name=tag, description="")
        for step, value in points:
            if np.isfinite(value):
                tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
                events.append(_event(now, step, tag, tensor, metadata))
    for tag, (step, path) in images.items():
        metadata = image_metadata.create_summary_metadata(
            display_name=tag, description="", converted_to_tensor=None
        )
        events.append(_event(now, step, tag, _image(path), metadata))
    suffix = f".analysis_{name}"
    leftovers = list(directory.glob(f"events.*{suffix}"))
    # TensorBoard reads files in the order of their names, and never goes back to an earlier one.
    path = directory / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}{suffix}"
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
    for leftover in leftovers:
        leftover.unlink()


def _image(path):
    """The tensor of a PNG: width, height, and the file."""
    png = pathlib.Path(path).read_bytes()
    size = struct.unpack(">2I", png[16:24])  # width and height stand in a PNG's first chunk
    dimension = tensor_shape_pb2.TensorShapeProto.Dim(size=3)
    return tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[*(str(length).encode() for length in size), png],
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[dimension]),
    )


def _event(now, step, tag, tensor, metadata):
    value = summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
    return event_pb2.Event(wall_time=now, step=step, summary=summary_pb2.Summary(value=[value]))
