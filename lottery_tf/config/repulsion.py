"""The repellent loss."""

import dataclasses

from lottery_tf.config.fields import flag


@dataclasses.dataclass(frozen=True)
class RepulsionFlags:
    """Flags of the repellent loss (Maene et al. 2021, section 3)."""

    repel: float = flag(
        0.0,
        "Strength lambda_r of the repellent loss: each round is pushed away from the optima of "
        "earlier rounds, or with a negative strength towards them. The paper uses 2 and -1.",
    )
    repel_from: str = flag(
        "all", "The optima of all earlier rounds, of the previous one, or a number: the last ones."
    )
    repel_scope: str = flag(
        "global",
        "global: one cosine over all prunable weights, as in the paper; its layers can cancel each "
        "other. layer: the mean over the layers of each one's squared cosine.",
        choices=("global", "layer"),
    )
    repel_weighting: str = flag(
        "none",
        "saliency weighs each coordinate by the squared gradient at the old optimum (a mean over "
        "batches of --batch_size), an estimate of the Fisher information, so that weights that do "
        "not matter cannot pay for the repulsion. Ours, not the paper's.",
        choices=("none", "saliency"),
    )
    repel_runs: tuple[str, ...] = flag(
        (),
        "Run directories whose optima count too, chosen by --repel_from among their rounds.",
        path=True,
    )
