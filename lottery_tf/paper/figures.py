"""Describes the figures and tables of both papers as data: what each shows, of which runs."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lottery_tf.errors import InputError
from lottery_tf.plots import Row

if TYPE_CHECKING:
    import matplotlib.figure

# Densities of the paper's rounds 5, 10 and 15, of 20% each; a study takes its nearest rounds.
ROUND_5, ROUND_10, ROUND_15 = 0.8**5, 0.8**10, 0.8**15


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure, whose runs the study of its name in flags/figures/ makes."""

    shows: str
    drawing: str  # a key of drawings.DRAWINGS
    # Flags by which runs are parted into panels. The other flags that vary inside a panel part them
    # into curves, and seeds are replicates.
    panel: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # the measures, of the metrics of a round, or of distances
    densities: tuple[float, ...] = ()  # of the rounds that it is about


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a drawing gives."""

    tables: dict[str, list[Row]]  # {end of the file's name: the plotted points}
    picture: "matplotlib.figure.Figure"


BATCH = ("batch_size",)
ACCURACY = ("test_accuracy",)
ANGLES = ("angular",)
LATE = (ROUND_10,)
FIGURES = {
    "fig01": Figure("Influence of the batch size and warm-up on IMP", "curves", BATCH, ACCURACY),
    "fig02": Figure(
        "Influence of the batch size on the linear-mode instability",
        "instability",
        BATCH,
        densities=(1.0, ROUND_5, ROUND_10, ROUND_15),
    ),  # the dense round 0 is ours
    "fig03": Figure("Repellent and attractive losses", "curves", BATCH, ACCURACY),
    "fig04": Figure("Angular distances between the rounds", "matrices", BATCH, ANGLES),
    "fig05": Figure("Surviving weights", "histograms", BATCH, densities=LATE),
    "fig06": Figure(
        "Influence of the batch size and warm-up on the pruning threshold",
        "curves",
        BATCH,
        ("threshold",),
    ),
    "fig07": Figure(
        "Influence of weight decay on semistable IMP", "curves", (), ("test_accuracy", "threshold")
    ),
    "fig08": Figure("Error barriers between successive rounds", "barriers"),
    "fig09": Figure("Angular distances between the rounds, all", "matrices", BATCH, ANGLES),
    "fig10": Figure("Cosine distances between the rounds, all", "matrices", BATCH, ("cosine",)),
    "fig11": Figure(
        "Euclidean distances between the rounds, all", "matrices", BATCH, ("euclidean",)
    ),
    "fig12": Figure("Influence of the batch size on IMP, Conv-4", "curves", BATCH, ACCURACY),
    "fig13": Figure("Repellent loss, Conv-4", "curves", (), ACCURACY),
    "fig14": Figure("Repellent loss, LeNet", "curves", (), ACCURACY),
    "fig15": Figure("Angular distances of repelled and attracted runs", "matrices", BATCH, ANGLES),
    "fig16": Figure("Angular distances of repelled runs, Conv-4", "matrices", ("repel",), ANGLES),
    "fig17": Figure(
        "Repelled from the previous round alone, LeNet", "matrices", ("repel_from",), ANGLES
    ),
    "fig18": Figure("Angular distances between the rounds, LeNet", "matrices", ("reset",), ANGLES),
    "fig19": Figure("Surviving weights, LeNet", "histograms", densities=LATE),
    "fig20": Figure("Error barriers between successive rounds, LeNet", "barriers"),
    "fig21": Figure("Angular distances between the rounds, Conv-4", "matrices", BATCH, ANGLES),
    "fig22": Figure("Surviving weights, Conv-4", "histograms", BATCH, densities=LATE),
    "fig23": Figure("Error barriers between successive rounds, Conv-4", "barriers"),
    "table1": Figure(
        "Networks and hyperparameters", "networks", ("model", "dataset"), densities=LATE
    ),
    "appendix_c": Figure(
        "ResNet-50 in one shot: accuracy lost at density 30%",
        "losses",
        ("learning_rate",),
        densities=(0.3,),
    ),
    "stability": Figure(
        "Stability to pruning and to data order",
        "stability",
        ("model", "learning_rate"),
        densities=LATE,
    ),
    "rewinding": Figure(
        "Accuracy by the step that rounds rewind to", "curves", ("model",), ACCURACY
    ),
    "thesis": Figure(
        "Where training is stable, the ticket leads",
        "thesis",
        densities=(ROUND_5, ROUND_10, ROUND_15),
    ),
}

UNSET = (None, "", "none", ())
RESETS = {"init": "ticket", "rewind": ""}  # --rewind_to says it
# How figures call the value of a flag; by default as "batch size 60".
NAMES: dict[str, Callable[[Any], str]] = {
    "batch_size": "batch {:d}".format,
    "learning_rate": "rate {:g}".format,
    "reset": lambda value: RESETS.get(value, value),
    "rewind_to": lambda value: f"rewound to {value}" if value else "",
    "warmup_epochs": lambda value: f"warm-up {value:g} epochs" if value else "no warm-up",
    "weight_decay": lambda value: f"weight decay {value:g}" if value else "no weight decay",
    "repel": lambda value: (
        f"{'repelled' if value > 0 else 'attracted'} ({value:g})" if value else ""
    ),
    "repel_from": lambda value: f"repelled from {value}",
    "masks_from": lambda value: f"masks of {value}" if value else "",
    "shuffle_masks": lambda value: f"shuffled ({value})" if value != "none" else "",
    "model": str,
    "dataset": lambda value: pathlib.Path(value).name,
}


def find(text: str) -> str:
    """Return the key of FIGURES that --figure names: "1", "01", "fig01", or a name.

    Raises:
        InputError: there is no such figure.
    """
    name = f"fig{int(text):02d}" if text.isdecimal() else text
    if name not in FIGURES:
        numbers = [int(known[3:]) for known in FIGURES if known.startswith("fig")]
        others = [known for known in FIGURES if not known.startswith("fig")]
        raise InputError(
            f"--figure: expected {min(numbers)} to {max(numbers)}, {', '.join(others)}. "
            f"Received: {text or 'none'}"
        )
    return name


def called(name: str, value: object) -> str:
    """Return what figures call the value of a flag; "" where it goes without saying."""
    if name not in NAMES and value in UNSET:
        return ""
    return NAMES.get(name, f"{name.replace('_', ' ')} {{}}".format)(value)
