"""Writes TensorBoard's event files without TensorFlow."""

import io
import os
import pathlib
import re
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb as scalar
from tensorboard.plugins.text.summary_v2 import text_pb as text
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

__all__ = [
    "append",
    "histogram",
    "image",
    "layout",
    "new_file",
    "replace",
    "scalar",
    "text",
    "write",
]
Step = tuple[int, Summary]


def write(
    directory: pathlib.Path,
    name: str,
    *,
    scalars: Mapping[str, Sequence[tuple[int, float]]],
    images: Mapping[str, tuple[int, pathlib.Path]],
    about: Mapping[str, str] | None = None,
) -> None:
    """Write an event file, in place of an earlier one of the same name.

    Its name ends with what it is about. Scalars are {tag: [(step, value)]}; what is not finite is
    left out. Images are {tag: (step, path of a PNG)}; `about` says what the tags of scalars are.
    """
    summaries = [
        (step, scalar(tag, value, (about or {}).get(tag)))
        for tag, points in scalars.items()
        for step, value in points
        if np.isfinite(value)
    ]
    summaries += [(step, image(tag, path)) for tag, (step, path) in images.items()]
    replace(directory, f".analysis_{name}", summaries)


def replace(directory: pathlib.Path, suffix: str, summaries: Iterable[Step]) -> None:
    """Write an event file of (step, summary), in place of those whose names end alike."""
    leftovers = list(directory.glob(f"events.*{suffix}"))
    append(new_file(directory, suffix), summaries)
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)  # another process may replace it, too


def new_file(directory: pathlib.Path, suffix: str = "") -> pathlib.Path:
    """Return the path of an event file that is to be written."""
    # TensorBoard reads files in the order of their names, and never goes back to an earlier one.
    return directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}{suffix}"


def append(path: pathlib.Path, summaries: Iterable[Step]) -> None:
    """Add (step, summary) to an event file, or begin it: all of them or, on an OSError, none.

    TensorBoard's own writer hands over one record at a time.
    """
    now = time.time()
    events = [Event(wall_time=now, step=step, summary=summary) for step, summary in summaries]
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_size if path.exists() else 0
    if not before:
        events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
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


def histogram(tag: str, counts: np.ndarray, edges: np.ndarray) -> Summary:
    """Return a histogram of counts (bins,) between edges (bins + 1,).

    TensorBoard's own function counts the values itself, for which it wants them in one array.
    """
    bins = np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)  # (bins, 3)
    metadata = histogram_metadata.create_summary_metadata(None, None)
    value = Summary.Value(tag=tag, tensor=make_tensor_proto(bins), metadata=metadata)
    return Summary(value=[value])


def layout(charts: Mapping[str, Mapping[str, Iterable[str]]]) -> Summary:
    """Return the page Custom Scalars: {category: {chart: tags whose curves it overlays}}.

    TensorBoard's own function for it needs TensorFlow.
    """
    page = layout_pb2.Layout()
    for category, of_category in charts.items():
        shown = page.category.add(title=category)
        for title, tags in of_category.items():  # a tag is a regular expression
            shown.chart.add(title=title).multiline.tag.extend(f"^{re.escape(t)}$" for t in tags)
    metadata, tag = layout_metadata.create_summary_metadata(), layout_metadata.CONFIG_SUMMARY_TAG
    tensor = make_tensor_proto(page.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])


def image(tag: str, path: pathlib.Path) -> Summary:
    """Return the picture that a PNG file holds; TensorBoard's own function needs TensorFlow."""
    png = path.read_bytes()
    width, height = struct.unpack(">2I", png[16:24])  # they stand in a PNG's first chunk
    metadata = image_metadata.create_summary_metadata(None, None, converted_to_tensor=None)
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png])
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])
