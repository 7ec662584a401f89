"""Sizes, products and times of an export, for its report."""

import gzip
import pathlib
from typing import Any

import numpy as np

from lottery_tf import masking
from lottery_tf.export import coding, flops, fresh
from lottery_tf.export.ticket import Ticket
from lottery_tf.plots import Row

BATCHES = (1, 128)


def of(ticket: Ticket, plain: Any, written: pathlib.Path, dense: pathlib.Path,
       format: str) -> Row:  # fmt: skip
    """The figures of an export beside those of a dense one of the same format.

    Args:
        ticket: Ticket.
        plain: the plain network that was written.
        written, dense: directories.
        format: a key of formats.FORMATS.
    """
    network = masking.unmasked(ticket.masked)
    return (
        {"layers": layers(ticket.masked)}
        | {"bytes": sizes(ticket.masked, written, dense)}
        | {"products": products(network, plain)}
        | {"milliseconds": milliseconds(format, written, dense, ticket)}
    )


def layers(network: Any) -> list[Row]:
    """A row for each prunable weight of a masked network: path, weights, alive, density."""
    return [
        {
            "path": path,
            "weights": mask.size,
            "alive": int(mask.sum()),
            "density": float(mask.mean()),
        }
        for path, mask in masking.get_masks(network).items()
    ]


def sizes(network: Any, written: pathlib.Path, dense: pathlib.Path) -> Row:
    """Bytes of an export and of a dense one, whole and deflated, and what entropy allows.

    The bound counts survivors and their places of pruned kernels, other variables whole.
    """
    masks, bound = masking.get_masks(network), 0.0
    for path, array in masking.get_weights(network).items():
        alive = int(masks[path].sum()) if path in masks else array.size
        bound += coding.entropy_bound(alive, array.size, array.dtype.itemsize)
    found: Row = {"entropy_bound": round(bound)}
    for name, directory in (("export", written), ("dense", dense)):
        contents = [path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()]
        found[name] = sum(map(len, contents))
        found[f"{name}_gzip"] = len(gzip.compress(b"".join(contents), 9, mtime=0))
    weights = written / "assets" / "weights.bin"
    if weights.exists():
        found["weights"] = weights.stat().st_size
    return found


def products(network: Any, plain: Any) -> Row:
    """Multiply-adds for one example: of all weights, of those alive, and of what was written."""
    (before, unknown), (after, _) = map(flops.multiply_adds, (network, plain))
    of_all, of_written = flops.total(before), flops.total(after)
    found = {"dense": of_all.dense, "alive": of_all.sparse, "written": of_written.dense}
    return found | ({"not_counted": unknown} if unknown else {})


def milliseconds(format: str, written: pathlib.Path, dense: pathlib.Path, ticket: Ticket) -> Row:
    """{batch size: {"export", "dense"}}: median times of a call, measured in turns."""
    found = {}
    for batch in BATCHES:
        inputs = {name: np.resize(a, (batch, *a.shape[1:])) for name, a in ticket.test.items()}
        export, of_dense = fresh.time(format, [written, dense], inputs)
        found[str(batch)] = {"export": export, "dense": of_dense}
    return found
