"""What an experiment is: one field = one flag, with its help = one line of config.json."""

import dataclasses
import json
from typing import Any

from lottery_tf.config.constraints import OPTIMIZERS, check_together
from lottery_tf.config.fields import check, flag, format_value
from lottery_tf.datasets import AUGMENTATIONS, DATASETS
from lottery_tf.method.criteria import CRITERIA
from lottery_tf.method.pruning import SCOPES
from lottery_tf.method.resets import RESETS
from lottery_tf.method.schedules import SCHEDULES
from lottery_tf.models import INITIALIZERS, MODELS, POLICIES


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked experiment; raises InputError on construction if a value is out of bounds."""

    run_dir: str = flag(
        "",
        "Directory of the run. Default: runs/<flag file>, with _flag=value for each experiment "
        "flag that the command line changes.",
        how=True,
    )
    seed: int = flag(0, "Seed that --init_seed and --data_seed default to.", at_least=0)
    init_seed: int = flag(None, "Seed of the initialization. Default: --seed.", at_least=0)
    data_seed: int = flag(
        None, "Seed of the SGD noise, the order of the data. Default: --seed.", at_least=0
    )

    model: str = flag(
        "lenet",
        f"Network: {', '.join(MODELS)}; or package.module:function, called with the input shape "
        "and the number of classes.",
    )
    initializer: str = flag(
        "kaiming_normal",
        "Distribution of the initial kernels (untruncated); biases start at zero.",
        choices=tuple(INITIALIZERS),
    )
    shortcut: str = flag(
        "identity",
        "Where shapes change in a ResNet: identity = every other pixel and channels of zeros, "
        "without weights (option A); projection = 1 x 1 convolution and BatchNorm (option B).",
        choices=("identity", "projection"),
    )
    bn_affine: bool = flag(False, "Whether BatchNorm learns a scale and an offset.")
    dataset: str = flag(
        "digits",
        f"Dataset: {', '.join(DATASETS)}; or a directory of images and labels in TensorFlow "
        "Datasets' layout.",
    )
    train_examples: int | None = flag(
        None, "Train on this many examples, the first of the split. Default: all.", at_least=1
    )
    image_size: int = flag(
        224, "Height and width to which images of varying size are cropped.", at_least=1
    )
    augment: str = flag(
        "auto",
        "Augmentation in training. auto: flip_crop for CIFAR (flip, pad 4 and crop), a random "
        "resized crop and flip for images of varying size, else none.",
        choices=("auto", *AUGMENTATIONS),
    )
    data_dir: str = flag("data", "Directory that holds the prepared datasets.", how=True)
    shuffle_window: int = flag(
        65536, "Records that are shuffled together; shards are permuted as a whole.", at_least=1
    )

    epochs: int = flag(25, "Epochs of training in every round.", at_least=1)
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

    rounds: int = flag(
        25, "Rounds of training, the dense round 0 included; may grow.", at_least=1, how=True
    )
    prune_fraction: float = flag(
        0.2, "Part of the surviving weights that is pruned after each round.", above=0, below=1
    )
    criterion: str = flag(
        "magnitude", "Score by which the lowest weights are pruned.", choices=tuple(CRITERIA)
    )
    scope: str = flag(
        "global", "Whether scores compete over all layers, or in each.", choices=SCOPES
    )
    reset: str = flag(
        "init",
        "What a round starts from: init = the initialization of round 0 (the ticket); reinit = a "
        "fresh one, a function of (init_seed, round), on its own chain of masks.",
        choices=tuple(RESETS),
    )

    strategy: str = flag(
        "auto",
        "Where to compute: on one device; mirrored on all GPUs of the machine (or on "
        "--cpu_devices); on the workers that TF_CONFIG or Slurm names. auto: the most of these "
        "that there is.",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
        how=True,
    )
    cpu_devices: int = flag(
        1,
        "Logical devices to make of the CPU, to try --strategy=mirrored without GPUs.",
        at_least=1,
        how=True,
    )
    sync_bn: bool = flag(
        True,
        "Where there are several replicas: BatchNorm's statistics are those of the whole batch, "
        "not of each replica's part.",
    )
    shard_files: bool = flag(
        False,
        "With several workers and --resident=off: each reads its own shards alone, which reads "
        "less, but makes the order depend on the number of workers.",
    )
    worker_timeout: float = flag(
        600.0,
        "Seconds without an answer after which another worker counts as lost; longer than the "
        "chief takes to save a round.",
        above=0,
        how=True,
    )
    checkpoint_minutes: float = flag(
        5.0,
        "Minutes between checkpoints inside a round; 0: none but on SIGTERM and Ctrl-C.",
        at_least=0,
        how=True,
    )
    deterministic: bool = flag(
        False,
        "Let TensorFlow use deterministic operations alone: the same run again, on the same kind "
        "of machine with as many devices, gives the same bits.",
        how=True,
    )
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
        choices=SCOPES,
    )
    repel_weighting: str = flag(
        "none",
        "saliency weighs each coordinate by the squared gradient at the old optimum (a mean over "
        "batches of --batch_size), an estimate of the Fisher information, so that weights that do "
        "not matter cannot pay for the repulsion. Ours, not the paper's.",
        choices=("none", "saliency"),
    )
    repel_runs: tuple[str, ...] = flag(
        (), "Run directories whose optima count too, chosen by --repel_from among their rounds."
    )

    jit_compile: str = flag(
        "auto",
        "Compile the epoch with XLA. auto: on, except with several replicas and for convolutions "
        "on a CPU.",
        choices=("auto", "on", "off"),
        how=True,
    )
    resident: str = flag(
        "auto",
        "Keep the training split in device memory. auto: if it takes under 2 GB.",
        choices=("auto", "on", "off"),
        how=True,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                check(field, item)
        check_together(self)
        # A seed that is not given is a function of --seed; recorded, so that the run says which.
        for name in ("init_seed", "data_seed"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.seed)

    @classmethod
    def recorded(cls, values: dict[str, Any], **changes: Any) -> "Config":
        """The Config that config.json holds, with some flags changed.

        A flag that config.json does not know has its default.
        """
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**(values | changes))

    def to_json(self) -> str:
        """The lines of config.json: every flag but run_dir, one per line."""
        values = dataclasses.asdict(self)
        del values["run_dir"]
        return json.dumps(values, indent=0) + "\n"

    def to_flags(self) -> str:
        """The lines of flags.cfg: a flag file that repeats the experiment."""
        values = dataclasses.asdict(self)
        return "".join(
            f"--{name}={format_value(value)}\n"
            for name, value in values.items()
            if name not in ("run_dir", "data_dir") and value is not None
        )
