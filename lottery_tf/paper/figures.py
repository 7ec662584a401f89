"""The figures and tables of both papers as data: what each shows, of which runs."""

import dataclasses
from typing import Any

from lottery_tf.errors import InputError
from lottery_tf.plots import Row

# Densities of the paper's rounds 5, 10 and 15, of 20% each; a study takes its nearest rounds.
ROUND_5, ROUND_10, ROUND_15 = 0.8**5, 0.8**10, 0.8**15


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure: a study of its name in flags/figures/ makes its runs.

    Args:
        shows: in a line.
        drawing: how it is drawn, a key of drawings.DRAWINGS.
        panel: flags by which runs are parted into panels; the other flags that vary inside a panel
            part them into curves, and seeds are replicates.
        densities: of the rounds that it is about.
        columns: the measures, of the metrics of a round, or of distances.
    """

    shows: str
    drawing: str
    panel: tuple[str, ...] = ()
    densities: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a drawing gives: {end of the file's name: the plotted points}, and the picture."""

    tables: dict[str, list[Row]]
    picture: Any


BATCH = ("batch_size",)
ACCURACY = ("test_accuracy",)
FIGURES = {
    "fig01": Figure("Influence of the batch size and warm-up on IMP", "curves", BATCH,
                    columns=ACCURACY),
    "fig02": Figure("Influence of the batch size on the linear-mode instability", "instability",
                    BATCH, (1.0, ROUND_5, ROUND_10, ROUND_15)),  # the dense round 0 is ours
    "fig03": Figure("Repellent and attractive losses", "curves", BATCH, columns=ACCURACY),
    "fig04": Figure("Angular distances between the rounds", "matrices", BATCH,
                    columns=("angular",)),
    "fig05": Figure("Surviving weights", "histograms", BATCH, (ROUND_10,)),
    "fig06": Figure("Influence of the batch size and warm-up on the pruning threshold", "curves",
                    BATCH, columns=("threshold",)),
    "fig07": Figure("Influence of weight decay on semistable IMP", "curves",
                    columns=("test_accuracy", "threshold")),
    "fig08": Figure("Error barriers between successive rounds", "barriers"),
    "fig09": Figure("Angular distances between the rounds, all", "matrices", BATCH,
                    columns=("angular",)),
    "fig10": Figure("Cosine distances between the rounds, all", "matrices", BATCH,
                    columns=("cosine",)),
    "fig11": Figure("Euclidean distances between the rounds, all", "matrices", BATCH,
                    columns=("euclidean",)),
    "fig12": Figure("Influence of the batch size on IMP, Conv-4", "curves", BATCH,
                    columns=ACCURACY),
    "fig13": Figure("Repellent loss, Conv-4", "curves", columns=ACCURACY),
    "fig14": Figure("Repellent loss, LeNet", "curves", columns=ACCURACY),
    "fig15": Figure("Angular distances of repelled and attracted runs", "matrices", BATCH,
                    columns=("angular",)),
    "fig16": Figure("Angular distances of repelled runs, Conv-4", "matrices", ("repel",),
                    columns=("angular",)),
    "fig17": Figure("Repelled from the previous round alone, LeNet", "matrices", ("repel_from",),
                    columns=("angular",)),
    "fig18": Figure("Angular distances between the rounds, LeNet", "matrices", ("reset",),
                    columns=("angular",)),
    "fig19": Figure("Surviving weights, LeNet", "histograms", densities=(ROUND_10,)),
    "fig20": Figure("Error barriers between successive rounds, LeNet", "barriers"),
    "fig21": Figure("Angular distances between the rounds, Conv-4", "matrices", BATCH,
                    columns=("angular",)),
    "fig22": Figure("Surviving weights, Conv-4", "histograms", BATCH, (ROUND_10,)),
    "fig23": Figure("Error barriers between successive rounds, Conv-4", "barriers"),
    "table1": Figure("Networks and hyperparameters", "networks", ("model", "dataset"),
                     (ROUND_10,)),
    "appendix_c": Figure("ResNet-50 in one shot: accuracy lost at density 30%", "losses",
                         ("learning_rate",), (0.3,)),
    "stability": Figure("Stability to pruning and to data order", "stability",
                        ("model", "learning_rate"), (ROUND_10,)),
    "rewinding": Figure("Accuracy by the step that rounds rewind to", "curves", ("model",),
                        columns=ACCURACY),
    "thesis": Figure("Where training is stable, the ticket leads", "thesis",
                     densities=(ROUND_5, ROUND_10, ROUND_15)),
}  # fmt: skip


def find(text: str) -> str:
    """The key of FIGURES that --figure names: "1", "01", "fig01", or a name.

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
