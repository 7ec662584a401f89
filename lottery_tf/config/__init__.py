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
        "Directory of the run. Default: runs/<flag file>, with _flag=value for each experiment "
        "flag that the command line changes.",
        how=True,
        path=True,
    )
    # Older versions recorded larger seeds, so only check_new bounds them.
    seed: int = flag(
        0, "Seed that --init_seed and --data_seed default to, below 2**32.", at_least=0
    )
    init_seed: int = flag(
        None, "Seed of the initialization, below 2**32. Default: --seed.", at_least=0
    )
    data_seed: int = flag(
        None,
        "Seed of the SGD noise (the order of the data, augmentation, dropout), below 2**32. "
        "Default: --seed.",
        at_least=0,
    )

    # Flags of the network and of its data.

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
        path=True,
    )
    train_examples: int | None = flag(
        None, "Train on this many examples, the first of the split. Default: all.", at_least=1
    )
    image_size: int = flag(
        224,
        "Height and width to which images of varying size are cropped.",
        at_least=1,
        below=2**15,
    )
    augment: str = flag(
        "auto",
        "Augmentation in training. auto: flip_crop for CIFAR (flip, pad 4 and crop), a random "
        "resized crop and flip for images of varying size, else none.",
        choices=("auto", *AUGMENTATIONS),
    )
    data_dir: str = flag("data", "Directory that holds the prepared datasets.", how=True, path=True)
    shuffle_window: int = flag(
        65536,
        "Records that are shuffled together; shards are permuted as a whole.",
        at_least=1,
        below=2**63,
    )
    train_split: str = flag(
        "train", "Split to train on; several are joined by plus signs, as train+extra."
    )
    test_split: str = flag(
        "",
        "Split to evaluate on; several as in --train_split. Default: test, else validation; of "
        "imagenet2012 validation.",
    )
    test_fraction: float | None = flag(
        None,
        "Evaluate on this part of --train_split, drawn once, the same for every seed, and train "
        "on the rest. Default: --test_split.",
        above=0,
        below=1,
    )
    validation_fraction: float | None = flag(
        None,
        "Hold out this part of the training examples, drawn once, the same for every seed. "
        "--early_stop=connected measures its barrier on them. Default: none.",
        above=0,
        below=1,
    )
    image_key: str = flag("image", "Name of the field that holds the image of an example.")
    label_key: str = flag("label", "Name of the field that holds its label.")

    # Flags of the training inside a round.

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
        "adam", "Adam (epsilon 1e-8), or SGD with momentum.", choices=("adam", "momentum")
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

    # Flags of the rounds.

    rounds: int = flag(
        None,
        "Rounds of training, the dense round 0 included; may grow. Default: 25, or with --density "
        "or --densities one for each of them after round 0; a command lowers a larger value to "
        "that, and prints a note.",
        at_least=1,
        how=True,
    )
    prune_fraction: float = flag(
        0.2, "Part of the surviving weights that is pruned after each round.", above=0, below=1
    )
    criterion: str = flag(
        "magnitude", "Score by which the lowest weights are pruned.", choices=tuple(CRITERIA)
    )
    scope: str = flag(
        "global",
        "global: scores compete over all layers; layer: in each layer; erk: in each layer, whose "
        "density is in proportion to (sum of the kernel's dimensions) / (product of them); output: "
        "in each output unit of each layer.",
        choices=SCOPES,
    )
    reset: str = flag(
        "init",
        "What a round starts from: init = the initialization of round 0 (the ticket); rewind = "
        "round 0 after --rewind_to, BatchNorm's statistics too, the optimizer fresh; reinit = a "
        "fresh initialization, a function of (init_seed, round), on its own chain of masks; "
        "lr_rewind = the trained weights, with the schedule from --rewind_to on (default: its "
        "begin); finetune = the trained weights, at the schedule's last rate; signs and "
        "trained_signs = fresh magnitudes with the signs of W_0 or of the trained weights; shuffle "
        "= the surviving values of W_0, permuted in each kernel.",
        choices=tuple(RESETS),
    )
    rewind_to: str = flag(
        "", "Step (500) or epoch (4ep) of the schedule that --reset=rewind or lr_rewind goes to."
    )
    finetune_epochs: int | None = flag(
        None, "Epochs of --reset=finetune. Default: --epochs.", at_least=1, below=2**31
    )
    round_0_from: str = flag(
        "",
        "Run whose round 0 is taken instead of training it; it must have the same flags, except "
        "those of pruning and resets.",
        how=True,
    )
    masks_from: str = flag(
        "", "Run whose masks are used instead of pruning, those of the same round in each."
    )
    shuffle_masks: str = flag(
        "none",
        "Move the masks of --masks_from to random places: in each layer, with its density; or over "
        "all layers.",
        choices=("none", "layer", "global"),
    )
    prune_at: str = flag(
        "round",
        "round: after each round; init: before a round trains, from the dense weights that it "
        "would start from; train: gradually, while it trains; dynamic: at random before it trains, "
        "and then weights are dropped and as many others grow.",
        choices=("round", "init", "train", "dynamic"),
    )
    density: float | None = flag(
        None,
        "Density to prune to, in one round after the dense round 0. Default: --prune_fraction.",
        above=0,
        below=1,
    )
    densities: tuple[float, ...] = flag(
        (),
        "Densities of the rounds after round 0, falling, in place of --prune_fraction.",
        above=0,
        below=1,
    )
    prune_iterations: int | None = flag(
        None,
        "Prunings in which each density is reached; scores are computed anew before each of them. "
        "Default: 100 for synflow, else 1.",
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
        (), "With --scope=layer: layers with a prune fraction of their own, as logits:0.1."
    )
    keep_dense: tuple[str, ...] = flag(
        (), "Layers that are not pruned, by name or pattern, as logits or block_1*."
    )
    min_layer_weights: int = flag(
        0, "Fewest weights that each layer keeps, so that no layer collapses.", at_least=0
    )
    structure: str = flag(
        "none",
        "What lives and dies together: none = each weight by itself; 2:4 (any N:M) = N of every M "
        "inputs of an output stay; 1x4 = blocks of outputs x inputs; channel = output channels, "
        "with all that belongs to them.",
    )
    structure_pool: str = flag(
        "sum",
        "How the scores of the weights in a block or channel make its own: their sum, their mean, "
        "or l2, the root of the sum of their squares.",
        choices=POOLS,
    )
    prune_schedule: str = flag(
        "polynomial",
        "Of --prune_at=train. polynomial: the density falls along a cubic from --prune_begin to "
        "--prune_end (Zhu & Gupta 2017); constant: it is that of the round from --prune_begin on; "
        "cosine: it falls along half a cosine; one_cycle: along a logistic curve (Hubens et al. "
        "2022).",
        choices=tuple(CURVES),
    )
    prune_begin: str = flag("0", "Step (500) or epoch (4ep) of the first gradual pruning.")
    prune_end: str = flag(
        "",
        "Step or epoch of the last one; of --prune_at=dynamic, the one that it comes before. "
        "Default: after three quarters of the training.",
    )
    prune_frequency: int | None = flag(
        None,
        "Steps between two gradual prunings, or changes of the masks. Default: 100, or a tenth of "
        "--prune_begin to --prune_end where that is less.",
        at_least=1,
    )
    regrow: str = flag(
        "gradient",
        "What grows with --prune_at=dynamic. gradient: the weights of each layer with the largest "
        "gradient on the next batch (RigL, Evci et al. 2020); random: any (SET, Mocanu et al. "
        "2018).",
        choices=REGROW,
    )
    drop_fraction: float = flag(
        0.3,
        "Part of each layer's weights, the smallest, that --prune_at=dynamic drops at first; it "
        "falls along half a cosine, to 0 at --prune_end.",
        above=0,
        below=1,
    )
    early_stop: str = flag(
        "none",
        "connected: once two rounds are linearly connected, the next one trains for --short_epochs "
        "(Maene et al. 2021 suggest it); the schedule is cut off there.",
        choices=("none", "connected"),
    )
    connected_error: float = flag(
        0.02,
        "Error barrier below which two rounds count as connected, on the examples that "
        "--validation_fraction holds out, 10,000 at most.",
        above=0,
        below=1,
    )
    short_epochs: int = flag(
        5, "Epochs of a round after two that are connected.", at_least=1, below=2**31
    )
    full_rounds: tuple[int, ...] = flag(
        (),
        "Rounds that --early_stop does not make short, as 10,15: those whose tickets are kept.",
        at_least=1,
    )

    # Flags of devices, checkpoints and compilation.

    strategy: str = flag(
        "auto",
        "Where to compute: on one device; mirrored on all GPUs of the machine (or on "
        "--cpu_devices); on the workers that TF_CONFIG or Slurm names. auto: the most of these "
        "that is available.",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
        how=True,
    )
    cpu_devices: int = flag(
        1,
        "Logical devices to make of the CPU, to try --strategy=mirrored without GPUs.",
        at_least=1,
        below=1025,
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
        "Minutes between checkpoints inside a round; 0: none but on SIGTERM, SIGHUP and Ctrl-C.",
        at_least=0,
        how=True,
    )
    deterministic: bool = flag(
        False,
        "Use only deterministic operations of TensorFlow: a run that is repeated on the same kind "
        "of machine, with as many devices, gives the same bits.",
        how=True,
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

    # Flags of the repellent loss (Maene et al. 2021, section 3).

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
