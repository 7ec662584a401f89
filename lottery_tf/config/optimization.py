"""How a round trains."""

import dataclasses

from lottery_tf.config.constraints import OPTIMIZERS
from lottery_tf.config.fields import flag
from lottery_tf.models import POLICIES
from lottery_tf.pruning.schedules import SCHEDULES


@dataclasses.dataclass(frozen=True)
class OptimizationFlags:
    """Flags of the training inside a round."""

    epochs: int = flag(25, "Epochs of training in every round.", at_least=1, below=2**31)
    batch_size: int = flag(
        60,
        "Examples per update; the last incomplete batch of an epoch is dropped in training.",
        at_least=1,
    )
    accumulate_steps: int = flag(
        1,
        "Micro-batches per update, for batches that do not fit into memory. The update is that of "
        "the whole batch, but BatchNorm's statistics are those of each micro-batch.",
        at_least=1,
    )
    mixed_precision: str = flag(
        "off",
        "Compute in 16 bits, with variables in float32; float16 scales the loss.",
        choices=tuple(POLICIES),
    )
    optimizer: str = flag(
        "adam", "Adam (epsilon 1e-8), or SGD with momentum.", choices=tuple(OPTIMIZERS)
    )
    learning_rate: float = flag(1.2e-3, "Learning rate before schedule and warm-up.", above=0)
    schedule: str = flag(
        "constant",
        "step divides at --lr_drops; cosine falls to 0 over all steps.",
        choices=tuple(SCHEDULES),
    )
    lr_drops: tuple[int, ...] = flag(
        (), "Epochs at which --schedule=step divides the rate, as 56,71.", at_least=1
    )
    lr_drop_factor: float = flag(10.0, "What --schedule=step divides the rate by.", above=1)
    warmup_epochs: float = flag(
        0.0, "Epochs over which the rate first rises linearly from 0.", at_least=0
    )
    momentum: float = flag(0.9, "Momentum of --optimizer=momentum.", at_least=0, below=1)
    weight_decay: float = flag(0.0, "Strength of the weight decay.", at_least=0)
    weight_decay_mode: str = flag(
        "l2",
        "l2 adds weight_decay * w to the gradient; decoupled subtracts rate * weight_decay * w.",
        choices=("l2", "decoupled"),
    )
    weight_decay_on: str = flag(
        "all", "Which trainable variables decay.", choices=("all", "kernels")
    )
