"""The flags of an experiment: a field of Config is a flag with its help and a line of config.json.

This module imports no framework: flags are checked before TensorFlow is loaded.
"""

import dataclasses
import json
from typing import Any

from lottery_tf.config.constraints import check_together, parse_layer_fraction
from lottery_tf.config.fields import check, flag, format_value
from lottery_tf.datasets import AUGMENTATIONS, DATASETS
from lottery_tf.models import INITIALIZERS, MODELS, POLICIES
from lottery_tf.pruning.allocation import SCOPES
from lottery_tf.pruning.criteria import CRITERIA, EVIDENCE_BN
from lottery_tf.pruning.gradual import CURVES
from lottery_tf.pruning.policy import MaskPolicy
from lottery_tf.pruning.regrowth import REGROW
from lottery_tf.pruning.resets import RESETS
from lottery_tf.pruning.schedules import SCHEDULES
from lottery_tf.pruning.structure import N_OF_M, POOLS, Structure, parse

ROUNDS = 25  # where no flag says how many
# {first flag of a section: its heading in docs/reference/flags.md}, in the order of the fields.
SECTIONS = {
    "run_dir": "Flags of the run itself",
    "model": "Flags of the network and of its data",
    "epochs": "Flags of the training inside a round",
    "rounds": "Flags of the rounds",
    "strategy": "Flags of devices, checkpoints and compilation",
    "repel": "Flags of the repellent loss (Maene et al. 2021, section 3)",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked experiment.

    Raises:
        InputError: a value is out of bounds, or two values do not go together.
    """

    # Flags of the run itself.

    run_dir: str = flag(
        "",
        "Directory that holds the run. Default: runs/<flag file>, followed by _flag=value for "
        "each experiment flag that the command line changes.",
        how=True,
        path=True,
    )
    # Older versions recorded larger seeds, so only check_new bounds them.
    seed: int = flag(
        0,
        "Seed below 2**32 from which --init_seed and --data_seed take their defaults.",
        at_least=0,
    )
    init_seed: int = flag(
        None, "Seed below 2**32 that draws the initialization. Default: --seed.", at_least=0
    )
    data_seed: int = flag(
        None,
        "Seed below 2**32 that draws the SGD noise: the order of the data, augmentation and "
        "dropout. Default: --seed.",
        at_least=0,
    )

    # Flags of the network and of its data.

    model: str = flag(
        "lenet",
        f"Network to train: {', '.join(MODELS)}. Or your own function, as "
        "package.module:function; it receives the input shape and the number of classes.",
    )
    initializer: str = flag(
        "kaiming_normal",
        "Distribution from which kernels are drawn, without truncation. Biases start at zero.",
        choices=tuple(INITIALIZERS),
    )
    shortcut: str = flag(
        "identity",
        "How a ResNet's shortcut changes the shape of images. identity (option A) takes every "
        "other pixel, adds channels of zeros and has no weights. projection (option B) is a 1 x "
        "1 convolution with BatchNorm.",
        choices=("identity", "projection"),
    )
    bn_affine: bool = flag(False, "Let BatchNorm learn a scale and an offset.")
    dataset: str = flag(
        "digits",
        f"Dataset to train on: {', '.join(DATASETS)}. Or a directory of images and labels, laid "
        "out as TensorFlow Datasets does.",
        path=True,
    )
    train_examples: int | None = flag(
        None, "Train on only this many examples, the first of the split. Default: all.", at_least=1
    )
    image_size: int = flag(
        224,
        "Height and width to which images of varying size are cropped.",
        at_least=1,
        below=2**15,
    )
    augment: str = flag(
        "auto",
        "How to augment training images. auto chooses flip_crop for CIFAR (flip, pad by 4 pixels "
        "and crop), a random resized crop with flips for images of varying size, and none for "
        "others.",
        choices=("auto", *AUGMENTATIONS),
    )
    data_dir: str = flag("data", "Directory that holds the prepared datasets.", how=True, path=True)
    shuffle_window: int = flag(
        65536,
        "Number of records that are shuffled together. Shards are permuted as a whole.",
        at_least=1,
        below=2**63,
    )
    train_split: str = flag(
        "train", "Split to train on. Join several by plus signs, as in train+extra."
    )
    test_split: str = flag(
        "",
        "Split to evaluate on. Join several by plus signs, as in --train_split. Default: test, "
        "else validation; for imagenet2012 validation.",
    )
    test_fraction: float | None = flag(
        None,
        "Evaluate on this part of --train_split and train on the rest. The part is drawn once "
        "and is the same for every seed. Default: evaluate on --test_split.",
        above=0,
        below=1,
    )
    validation_fraction: float | None = flag(
        None,
        "Hold out this part of the training examples. --early_stop=connected measures its "
        "barrier on them. The part is drawn once and is the same for every seed. Default: none.",
        above=0,
        below=1,
    )
    image_key: str = flag("image", "Field of an example that holds the image.")
    label_key: str = flag("label", "Field of an example that holds the label.")

    # Flags of the training inside a round.

    epochs: int = flag(25, "Epochs for which every round trains.", at_least=1, below=2**31)
    batch_size: int = flag(
        60,
        "Examples in an update. Training drops the last batch of an epoch if it is incomplete.",
        at_least=1,
    )
    accumulate_steps: int = flag(
        1,
        "Split each update into this many micro-batches, for batches that do not fit into "
        "memory. The update equals that of the whole batch, except that BatchNorm uses the "
        "statistics of each micro-batch.",
        at_least=1,
    )
    mixed_precision: str = flag(
        "off",
        "Compute in 16 bits and keep variables in float32. float16 also scales the loss.",
        choices=tuple(POLICIES),
    )
    optimizer: str = flag(
        "adam",
        "Optimizer to train with. adam is Adam with epsilon 1e-8; momentum is SGD with momentum.",
        choices=("adam", "momentum"),
    )
    learning_rate: float = flag(
        1.2e-3, "Learning rate before the schedule and the warm-up change it.", above=0
    )
    schedule: str = flag(
        "constant",
        "How the learning rate falls. step divides it at the epochs of --lr_drops; cosine lowers "
        "it to 0 over all steps.",
        choices=tuple(SCHEDULES),
    )
    lr_drops: tuple[int, ...] = flag(
        (), "Epochs at which --schedule=step divides the learning rate, as in 56,71.", at_least=1
    )
    lr_drop_factor: float = flag(
        10.0, "Number by which --schedule=step divides the learning rate.", above=1
    )
    warmup_epochs: float = flag(
        0.0, "Epochs during which the learning rate first rises linearly from 0.", at_least=0
    )
    momentum: float = flag(0.9, "Momentum that --optimizer=momentum uses.", at_least=0, below=1)
    weight_decay: float = flag(0.0, "Strength of the weight decay.", at_least=0)
    weight_decay_mode: str = flag(
        "l2",
        "How weights decay. l2 adds weight_decay * w to the gradient; decoupled subtracts rate * "
        "weight_decay * w from the weight.",
        choices=("l2", "decoupled"),
    )
    weight_decay_on: str = flag(
        "all", "Trainable variables that decay.", choices=("all", "kernels")
    )

    # Flags of the rounds.

    rounds: int = flag(
        None,
        "Number of rounds to train, including the dense round 0; a later launch may raise it. "
        "Default: 25, or with --density or --densities one round for each of them after round 0. "
        "The command lowers a larger value to that number and says so.",
        at_least=1,
        how=True,
    )
    prune_fraction: float = flag(
        0.2, "Part of the surviving weights that is pruned after each round.", above=0, below=1
    )
    criterion: str = flag(
        "magnitude",
        "Score that decides which weights are pruned: those with the lowest.",
        choices=tuple(CRITERIA),
    )
    scope: str = flag(
        "global",
        "Where the scores of weights compete. global: over all layers. layer: within each layer. "
        "erk: within each layer, whose density is proportional to (sum of the kernel's "
        "dimensions) / (product of them). output: within each output unit of each layer.",
        choices=SCOPES,
    )
    reset: str = flag(
        "init",
        "What each round starts from. init: the initialization of round 0, which makes a ticket. "
        "rewind: round 0 after --rewind_to, with BatchNorm's statistics and a fresh optimizer. "
        "reinit: a fresh initialization, a function of (init_seed, round), with a chain of masks "
        "of its own. lr_rewind: the trained weights, with the schedule from --rewind_to on "
        "(default: from its beginning). finetune: the trained weights, at the last rate of the "
        "schedule. signs, trained_signs: fresh magnitudes with the signs of W_0 or of the "
        "trained weights. shuffle: the surviving values of W_0, permuted within each kernel.",
        choices=tuple(RESETS),
    )
    rewind_to: str = flag(
        "",
        "Step (500) or epoch (4ep) of the schedule to which --reset=rewind or lr_rewind returns.",
    )
    finetune_epochs: int | None = flag(
        None,
        "Epochs for which --reset=finetune trains a round. Default: --epochs.",
        at_least=1,
        below=2**31,
    )
    round_0_from: str = flag(
        "",
        "Run whose round 0 this run copies instead of training its own. Its flags must be the "
        "same, except those of pruning and resets.",
        how=True,
    )
    masks_from: str = flag(
        "",
        "Run whose masks this run uses instead of pruning. Each round takes the masks of the "
        "same round there.",
    )
    shuffle_masks: str = flag(
        "none",
        "Move the masks of --masks_from to random places. layer moves them within each layer and "
        "keeps its density; global moves them over all layers.",
        choices=("none", "layer", "global"),
    )
    prune_at: str = flag(
        "round",
        "When weights are pruned. round: after each round. init: before a round trains, from the "
        "dense weights that it would start from. train: gradually, while a round trains. "
        "dynamic: at random before a round trains; then training drops weights and grows as many "
        "others.",
        choices=("round", "init", "train", "dynamic"),
    )
    density: float | None = flag(
        None,
        "Prune to this density, in one round after the dense round 0. Default: prune by "
        "--prune_fraction.",
        above=0,
        below=1,
    )
    densities: tuple[float, ...] = flag(
        (),
        "Densities of the rounds after round 0, in falling order. They replace --prune_fraction.",
        above=0,
        below=1,
    )
    prune_iterations: int | None = flag(
        None,
        "Number of prunings that reach each density. Each computes new scores. Default: 100 for "
        "synflow, else 1.",
        at_least=1,
    )
    evidence_bn: str = flag(
        "batch",
        "Statistics that BatchNorm takes while --criterion=snip or grasp scores the weights: batch "
        "= those of the batch, as in training; running = the running ones of the round's start, as "
        "in public code of snip and Synaptic Flow.",
        choices=EVIDENCE_BN,
    )
    layer_fractions: tuple[str, ...] = flag(
        (),
        "Layers with a prune fraction of their own, as in logits:0.1. They require --scope=layer.",
    )
    keep_dense: tuple[str, ...] = flag(
        (), "Layers that are not pruned, by name or pattern, as in logits or block_1*."
    )
    min_layer_weights: int = flag(
        0,
        "Number of weights that each layer keeps at least, so that no layer collapses.",
        at_least=0,
    )
    structure: str = flag(
        "none",
        "Which weights are pruned together. none: each weight alone. 2:4, or any N:M: N of every "
        "M inputs of an output stay. 1x4: blocks of outputs x inputs. channel: output channels, "
        "with everything that belongs to them.",
    )
    structure_pool: str = flag(
        "sum",
        "How the scores of a block or channel are combined: by their sum, by their mean, or by "
        "l2, the root of the sum of their squares.",
        choices=POOLS,
    )
    prune_schedule: str = flag(
        "polynomial",
        "How --prune_at=train lowers the density from --prune_begin to --prune_end. polynomial "
        "follows a cubic (Zhu & Gupta 2017), cosine half a cosine, one_cycle a logistic curve "
        "(Hubens et al. 2022). constant prunes to the density of the round at --prune_begin.",
        choices=tuple(CURVES),
    )
    prune_begin: str = flag("0", "Step (500) or epoch (4ep) of the first gradual pruning.")
    prune_end: str = flag(
        "",
        "Step or epoch of the last gradual pruning. With --prune_at=dynamic, the masks change "
        "only before it. Default: after three quarters of the training.",
    )
    prune_frequency: int | None = flag(
        None,
        "Steps between two gradual prunings, or between two changes of the masks. Default: 100, "
        "or a tenth of the steps from --prune_begin to --prune_end if that is less.",
        at_least=1,
    )
    regrow: str = flag(
        "gradient",
        "Which weights --prune_at=dynamic grows. gradient: in each layer those with the largest "
        "gradient on the next batch (RigL, Evci et al. 2020). random: any (SET, Mocanu et al. "
        "2018).",
        choices=REGROW,
    )
    drop_fraction: float = flag(
        0.3,
        "Part of each layer's weights, the smallest, that --prune_at=dynamic drops at first. It "
        "falls along half a cosine and reaches 0 at --prune_end.",
        above=0,
        below=1,
    )
    early_stop: str = flag(
        "none",
        "Shorten rounds. connected: once two rounds are linearly connected, the next one trains "
        "only for --short_epochs, as Maene et al. 2021 suggest; its schedule is cut off there.",
        choices=("none", "connected"),
    )
    connected_error: float = flag(
        0.02,
        "Error barrier below which two rounds count as connected. It is measured on at most "
        "10,000 of the examples that --validation_fraction holds out.",
        above=0,
        below=1,
    )
    short_epochs: int = flag(
        5, "Epochs for which a round trains after two connected rounds.", at_least=1, below=2**31
    )
    full_rounds: tuple[int, ...] = flag(
        (),
        "Rounds that --early_stop does not shorten, as in 10,15, because you keep their tickets.",
        at_least=1,
    )

    # Flags of devices, checkpoints and compilation.

    strategy: str = flag(
        "auto",
        "Where to compute. one_device uses one device; mirrored all GPUs of the machine, or "
        "--cpu_devices; multi_worker the workers that TF_CONFIG or Slurm names. auto takes the "
        "most that is available.",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
        how=True,
    )
    cpu_devices: int = flag(
        1,
        "Number of logical devices into which the CPU is divided, to try --strategy=mirrored "
        "without GPUs.",
        at_least=1,
        below=1025,
        how=True,
    )
    sync_bn: bool = flag(
        True,
        "Compute BatchNorm's statistics over the whole batch if there are several replicas. "
        "Otherwise each replica uses those of its own part.",
    )
    shard_files: bool = flag(
        False,
        "Let each worker read only its own shards. It reads less, but the order of the data then "
        "depends on the number of workers. Requires several workers and --resident=off.",
    )
    worker_timeout: float = flag(
        600.0,
        "Seconds of silence after which another worker counts as lost. Choose more than the "
        "chief needs to save a round.",
        above=0,
        how=True,
    )
    checkpoint_minutes: float = flag(
        5.0,
        "Minutes between checkpoints within a round. With 0, a run saves a checkpoint only at "
        "SIGTERM, SIGHUP and Ctrl-C.",
        at_least=0,
        how=True,
    )
    deterministic: bool = flag(
        False,
        "Use only deterministic operations of TensorFlow. A run then repeats bit for bit on the "
        "same kind of machine with as many devices.",
        how=True,
    )
    jit_compile: str = flag(
        "auto",
        "Compile the epoch with XLA. auto does so, except with several replicas and for "
        "convolutions on a CPU.",
        choices=("auto", "on", "off"),
        how=True,
    )
    resident: str = flag(
        "auto",
        "Keep the training split in device memory. auto does so if the split takes less than 2 GB.",
        choices=("auto", "on", "off"),
        how=True,
    )

    # Flags of the repellent loss (Maene et al. 2021, section 3).

    repel: float = flag(
        0.0,
        "Strength lambda_r of the repellent loss. It pushes each round away from the optima of "
        "earlier rounds; a negative strength pulls the round towards them. The paper uses 2 and "
        "-1.",
    )
    repel_from: str = flag(
        "all",
        "Optima that repel: those of all earlier rounds, of the previous round, or of the last N "
        "rounds if you give a number.",
    )
    repel_scope: str = flag(
        "global",
        "What the cosine covers. global takes one cosine over all prunable weights, as in the "
        "paper; its layers can cancel each other. layer averages the squared cosines of the "
        "layers.",
        choices=("global", "layer"),
    )
    repel_weighting: str = flag(
        "none",
        "How coordinates are weighted. saliency multiplies each by the squared gradient at the "
        "old optimum (a mean over batches of --batch_size), an estimate of the Fisher "
        "information. Weights that do not matter then cannot pay for the repulsion. This is our "
        "addition, not the paper's.",
        choices=("none", "saliency"),
    )
    repel_runs: tuple[str, ...] = flag(
        (),
        "Run directories whose optima also count. --repel_from chooses among their rounds.",
        path=True,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                check(field, item)
        check_together(self)
        # Defaults that depend on other flags are filled in, so that config.json records them.
        if self.rounds is None:
            object.__setattr__(self, "rounds", self.policy.most_rounds or ROUNDS)
        for name in ("init_seed", "data_seed"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.seed)

    @classmethod
    def recorded(cls, values: dict[str, Any], **changes: Any) -> "Config":
        """Return the Config that config.json holds, with some flags changed.

        A flag that config.json does not know gets its default.
        """
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**(values | changes))

    def to_json(self) -> str:
        """Return the text of config.json: every flag but run_dir, one per line."""
        values = dataclasses.asdict(self)
        del values["run_dir"]
        return json.dumps(values, indent=0) + "\n"

    def to_flags(self) -> str:
        """Return the text of flags.cfg, a flag file that repeats the experiment."""
        values = dataclasses.asdict(self)
        return "".join(
            f"--{name}={format_value(value)}\n"
            for name, value in values.items()
            if name not in ("run_dir", "data_dir") and value is not None
        )

    @property
    def policy(self) -> MaskPolicy:
        """Return when weights are pruned, and to which density.

        Its structure does not know the network: `Engine.policy` does.
        """
        targets = self.densities or (() if self.density is None else (self.density,))
        pattern = parse(self.structure, "--structure")
        if pattern and pattern.kind == N_OF_M and not targets:
            targets = (pattern.n / pattern.m,)
        return MaskPolicy(
            prunes_at="never" if self.masks_from else self.prune_at,
            targets=() if self.masks_from else targets,
            fraction=self.prune_fraction,
            scope=self.scope,
            layer_fractions=dict(map(parse_layer_fraction, self.layer_fractions)),
            keep_dense=self.keep_dense,
            min_layer_weights=self.min_layer_weights,
            structure=Structure(pattern, self.structure_pool) if pattern else None,
        )


def sections() -> dict[str, list[dataclasses.Field]]:
    """Return {first flag of a section: its fields}; the headings are in SECTIONS."""
    found: dict[str, list[dataclasses.Field]] = {}
    for field in dataclasses.fields(Config):
        if field.name in SECTIONS:
            current = found.setdefault(field.name, [])
        current.append(field)
    return found
