"""Which flags go together, and which do nothing without another. One table for each question."""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from lottery_tf import datasets, models
from lottery_tf.config.environment import uses_onednn
from lottery_tf.config.fields import format_value
from lottery_tf.datasets import DATASETS, is_directory
from lottery_tf.errors import InputError
from lottery_tf.models import MODELS
from lottery_tf.pruning.criteria import needs
from lottery_tf.pruning.policy import IN_TRAINING
from lottery_tf.pruning.resets import ON_TRAINED
from lottery_tf.pruning.schedules import check_drops, parse_step
from lottery_tf.pruning.streams import SEEDS
from lottery_tf.pruning.structure import N_OF_M, Pattern, parse
from lottery_tf.terminal import quiet

if TYPE_CHECKING:
    from lottery_tf.config import Config

MOST_UPDATES = 2**28  # of a round: days of training; their learning rates take 5 GB to compute

# A rule: when it is broken, and what to say then; {flag} stands for the flag's value.
Rule = tuple[Callable[["Config"], object], str]

# What holds for every Config.
TOGETHER: tuple[Rule, ...] = (
    (
        lambda c: c.model not in MODELS and ":" not in c.model,
        f"--model: expected one of {', '.join(MODELS)}, or package.module:function. Received: "
        "{model}",
    ),
    (
        lambda c: c.dataset not in DATASETS and not is_directory(c.dataset),
        f"--dataset: expected one of {', '.join(DATASETS)}, or a directory with a "
        "dataset_info.json. Received: {dataset}",
    ),
    (
        lambda c: c.test_fraction and c.test_split,
        "--test_fraction evaluates on a part of --train_split, --test_split on another split: "
        "leave one of them out. Received: --test_fraction={test_fraction} "
        "--test_split={test_split}",
    ),
    (
        lambda c: (
            c.repel_from not in ("all", "previous")
            and not (c.repel_from.isascii() and c.repel_from.isdigit() and int(c.repel_from))
        ),
        "--repel_from: expected all, previous, or a positive number of rounds. Received: "
        "{repel_from}",
    ),
    (
        lambda c: c.batch_size % c.accumulate_steps,
        "--accumulate_steps: expected a divisor of --batch_size={batch_size}. Received: "
        "{accumulate_steps}",
    ),
    (
        lambda c: c.reset == "rewind" and not c.rewind_to,
        "--reset=rewind expects --rewind_to, as --rewind_to=500 or --rewind_to=4ep.",
    ),
    (
        lambda c: c.layer_fractions and c.scope != "layer",
        "--layer_fractions expects --scope=layer. Received: --scope={scope}",
    ),
    (
        lambda c: c.layer_fractions and c.policy.targets,
        "--layer_fractions are parts of the surviving weights, so they do not go with --density "
        "or --densities: leave one of them out.",
    ),
    (
        lambda c: c.early_stop == "connected" and c.short_epochs >= c.epochs,
        "--short_epochs: expected fewer than --epochs={epochs}. Received: {short_epochs}",
    ),
    (
        lambda c: c.density is not None and c.densities,
        "Expected --density or --densities, not both. Received: --density={density} "
        "--densities={densities}",
    ),
    (
        lambda c: list(c.densities) != sorted(set(c.densities), reverse=True),
        "--densities: expected falling numbers, as 0.2,0.1,0.05. Received: {densities}",
    ),
    (
        lambda c: c.policy.most_rounds and c.rounds is not None and c.rounds > c.policy.most_rounds,
        "--rounds: expected at most {policy.most_rounds}, round 0 and one for each target of "
        "--density or --densities. Received: {rounds}. Leave it out, or give more --densities.",
    ),
    (
        lambda c: c.policy.prunes_at in ("init", *IN_TRAINING) and not c.policy.targets,
        "--prune_at={prune_at} expects --density or --densities.",
    ),
    (
        lambda c: c.policy.prunes_at in ("init", *IN_TRAINING) and c.reset in ON_TRAINED,
        "--prune_at={prune_at} prunes dense weights, but --reset={reset} starts from the pruned "
        "weights of the round before. Use another --reset, or --prune_at=round.",
    ),
    (
        lambda c: c.policy.prunes_at == "init" and needs(c.criterion) == {"initial", "trained"},
        "--prune_at=init: --criterion={criterion} compares the weights before and after a "
        "training, but here nothing has trained yet. Use --criterion=magnitude.",
    ),
    (
        lambda c: (
            c.policy.prunes_at == "train" and not needs(c.criterion) <= {"trained", "uniform"}
        ),
        "--prune_at=train expects a criterion of the current weights, as magnitude. Received: "
        "--criterion={criterion}",
    ),
    (
        lambda c: c.policy.prunes_at in IN_TRAINING and c.scope == "output",
        "--prune_at={prune_at} expects --scope=global, layer or erk. Received: --scope=output",
    ),
    (
        lambda c: c.structure != "none" and c.scope == "output",
        "--structure={structure} does not go with --scope=output: leave --scope out, or give "
        "--scope=layer.",
    ),
    (
        lambda c: c.policy.prunes_at in IN_TRAINING and c.repel,
        "--prune_at={prune_at} does not go with --repel, which compares rounds on masks that stay: "
        "leave one of them out.",
    ),
    (
        lambda c: c.policy.prunes_at in IN_TRAINING and c.prune_iterations,
        "--prune_at={prune_at} does not go with --prune_iterations: leave one of them out.",
    ),
    (
        lambda c: c.policy.prunes_at == "dynamic" and c.criterion != "magnitude",
        "--prune_at=dynamic begins with random masks and drops the smallest weights; which ones "
        "grow is said by --regrow. Leave --criterion={criterion} out.",
    ),
    (
        lambda c: c.policy.prunes_at == "dynamic" and c.scope == "global",
        "--prune_at=dynamic keeps the number of weights of each layer: add --scope=erk (as Evci et "
        "al. 2020), or --scope=layer for equal densities.",
    ),
    (
        lambda c: (pattern := _n_of_m(c)) and not pattern.leads_to(c.policy.targets),
        "--structure={structure} itself says what is left: leave --density and --densities out, or "
        "give the numbers of whole weights on the way there, as --densities=0.75,0.5 for 2:4. "
        "Received: --density={density} --densities={densities}",
    ),
    (
        lambda c: _n_of_m(c) and (c.scope != "global" or c.min_layer_weights),
        "--structure={structure} says what each layer keeps: leave --scope and "
        "--min_layer_weights out.",
    ),
    (
        lambda c: c.structure_pool != "sum" and (c.structure == "none" or _n_of_m(c)),
        "--structure_pool={structure_pool} does nothing without blocks or channels, as "
        "--structure=1x4. Received: --structure={structure}",
    ),
)

# What holds for every new run; some runs of older versions break it, and still resume.
NEW: tuple[Rule, ...] = (
    *(
        (
            lambda c, name=name: getattr(c, name) >= SEEDS,
            f"--{name}: expected a number below {SEEDS}. Received: {{{name}}}",
        )
        for name in ("seed", "init_seed", "data_seed")
    ),
    (
        lambda c: c.warmup_epochs > c.epochs,
        "--warmup_epochs: expected at most --epochs={epochs}, or the rate never rises to "
        "--learning_rate. Received: {warmup_epochs}",
    ),
    (
        lambda c: c.early_stop == "connected" and not c.validation_fraction,
        "--early_stop=connected measures the barrier between two rounds on examples that are held "
        "out of the training, where networks make errors: add --validation_fraction=0.1.",
    ),
    (
        lambda c: c.early_stop == "connected" and c.policy.prunes_at in IN_TRAINING,
        "--early_stop=connected does not go with --prune_at={prune_at}: a short round would end "
        "before its masks have changed for the last time. Leave one of them out.",
    ),
    (
        lambda c: c.early_stop == "connected" and c.reset == "finetune",
        "--early_stop=connected does nothing with --reset=finetune, whose rounds train for "
        "--finetune_epochs: leave it out, and lower those.",
    ),
)

# {a flag that does nothing alone: (the flag that it needs, the values of that which will do; none:
# any but zero)}.
NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "lr_drops": ("schedule", ("step",)),
    "lr_drop_factor": ("schedule", ("step",)),
    "momentum": ("optimizer", ("momentum",)),
    "weight_decay_mode": ("weight_decay", ()),
    "weight_decay_on": ("weight_decay", ()),
    "cpu_devices": ("strategy", ("mirrored",)),
    "sync_bn": ("strategy", ("mirrored", "multi_worker", "auto")),
    "shard_files": ("strategy", ("multi_worker", "auto")),
    "worker_timeout": ("strategy", ("multi_worker", "auto")),
    "repel_from": ("repel", ()),
    "repel_scope": ("repel", ()),
    "repel_weighting": ("repel", ()),
    "repel_runs": ("repel", ()),
    "data_dir": ("dataset", tuple(DATASETS)),
    "rewind_to": ("reset", ("rewind", "lr_rewind")),
    "finetune_epochs": ("reset", ("finetune",)),
    "shuffle_masks": ("masks_from", ()),
    "evidence_bn": ("criterion", ("snip", "grasp")),
    "layer_fractions": ("scope", ("layer",)),
    "prune_schedule": ("prune_at", ("train",)),
    "prune_begin": ("prune_at", ("train",)),
    "prune_end": ("prune_at", IN_TRAINING),
    "prune_frequency": ("prune_at", IN_TRAINING),
    "regrow": ("prune_at", ("dynamic",)),
    "drop_fraction": ("prune_at", ("dynamic",)),
    "connected_error": ("early_stop", ("connected",)),
    "short_epochs": ("early_stop", ("connected",)),
    "full_rounds": ("early_stop", ("connected",)),
    "validation_fraction": ("early_stop", ("connected",)),
}
# {a flag: the flags that do nothing beside it}.
USELESS_BESIDE = {
    "masks_from": (
        "criterion",
        "prune_fraction",
        "scope",
        "density",
        "densities",
        "prune_at",
        "prune_iterations",
        "evidence_bn",
        "layer_fractions",
        "keep_dense",
        "min_layer_weights",
        "structure",
        "structure_pool",
    ),
    "density": ("prune_fraction",),
    "densities": ("prune_fraction",),
}
# {a flag of the network: the parameter of the network's function that shows that it is used}.
OF_NETWORK = {
    "initializer": "initializer",
    "shortcut": "shortcut",
    "bn_affine": "bn_affine",
    "sync_bn": "bn_affine",
    "evidence_bn": "bn_affine",
}


def check_together(config: "Config") -> None:
    """Raise InputError if flags of a Config do not go together."""
    for name in ("rewind_to", "prune_begin", "prune_end"):
        if text := getattr(config, name):
            parse_step(f"--{name}", text, 1)
    for text in config.layer_fractions:
        parse_layer_fraction(text)
    parse(config.structure, "--structure")
    if config.schedule == "step":
        check_drops(config.lr_drops, config.epochs)
    _check(config, TOGETHER)


def _n_of_m(config: "Config") -> Pattern | None:
    pattern = parse(config.structure)
    return pattern if pattern and pattern.kind == N_OF_M and not config.masks_from else None


def check_new(config: "Config") -> None:
    """Raise InputError if a new run may not have these flags; an older run may."""
    _check(config, NEW)


def _check(config: "Config", rules: tuple[Rule, ...]) -> None:
    for is_broken, message in rules:
        if is_broken(config):
            values = {name: format_value(value) for name, value in vars(config).items()}
            raise InputError(message.format(**values, policy=config.policy))


def check_given(config: "Config", given: set[str]) -> None:
    """Raise InputError if a flag that the command line itself gave would do nothing.

    Those of flag files may be meant for another variant of the experiment.
    """
    users_own = config.model not in MODELS
    for name in given & NEEDS.keys():
        needed, values = NEEDS[name]
        value = getattr(config, needed)
        works = value in values if values else bool(value)
        if not works and not (users_own and name in _parameters(config)):
            wanted = " or ".join(f"--{needed}={value}" for value in values) or f"--{needed}"
            raise InputError(
                f"--{name} does nothing without {wanted}: add it, or leave --{name} out. "
                f"Received: --{needed}={value}"
            )
    for other, useless in USELESS_BESIDE.items():
        if getattr(config, other) and (both := sorted(given.intersection(useless))):
            raise InputError(
                f"--{both[0]} does nothing beside --{other}={format_value(getattr(config, other))}:"
                " leave one of them out."
            )
    for name in given & OF_NETWORK.keys():
        parameter = OF_NETWORK[name]
        if parameter in _parameters(config) or (name in ("sync_bn", "evidence_bn") and users_own):
            continue
        able = [model for model in MODELS if parameter in models.parameters(model)]
        raise InputError(
            f"--{name} does nothing to {config.model}, whose function has no parameter "
            f"{parameter}. Leave it out, or use --model={', '.join(able)}."
        )
    if "seed" in given and config.seed not in (config.init_seed, config.data_seed):
        raise InputError(
            "--seed does nothing beside --init_seed and --data_seed: leave one of the three out."
        )
    if "image_size" in given and datasets.find(config).one_size:
        raise InputError(
            f"--image_size expects images of varying size; those of {config.dataset} have one. "
            "Leave it out."
        )


def _parameters(config: "Config") -> set[str]:
    # The network's module imports Keras.
    quiet.import_tensorflow(uses_onednn(pathlib.Path(config.run_dir)))
    return models.parameters(config.model)


def parse_layer_fraction(text: str) -> tuple[str, float]:
    """Return (layer, fraction) of "logits:0.1".

    Raises:
        InputError: the text does not have this form.
    """
    layer, _, fraction = text.rpartition(":")
    try:
        value = float(fraction)
    except ValueError:
        value = 0.0
    if not layer or not 0 < value < 1:
        raise InputError(
            "--layer_fractions: expected layers with fractions in (0, 1), as logits:0.1. "
            f"Received: {text}"
        )
    return layer, value


# What holds once the data are known. No TensorFlow, so that a sweep can ask before it starts.


def check_batch(config: "Config", examples: int, replicas: int = 1) -> None:
    """Raise InputError if the batch does not fit the training examples or the replicas."""
    batch_size, parts = config.batch_size, replicas * config.accumulate_steps
    if batch_size > examples:
        raise InputError(
            f"--batch_size: expected at most {examples}, the examples of the training split of "
            f"{config.dataset}. Received: {batch_size}"
        )
    if batch_size % parts:
        below = batch_size // parts * parts
        nearest = [size for size in (below, below + parts) if 0 < size <= examples]
        each = f" in {config.accumulate_steps} parts each" * (config.accumulate_steps > 1)
        raise InputError(
            f"--batch_size is that of all {replicas} replicas{each}; expected a multiple of "
            f"{parts}, as {' or '.join(map(str, nearest))}. Received: {batch_size}"
        )


def check_updates(config: "Config", steps_per_epoch: int) -> None:
    """Raise InputError if a round has more updates than can be planned."""
    for name in ("epochs", "finetune_epochs"):
        updates = (getattr(config, name) or 0) * steps_per_epoch
        if updates > MOST_UPDATES:
            raise InputError(
                f"--{name}={getattr(config, name)}: expected at most {MOST_UPDATES} updates in a "
                f"round, so {MOST_UPDATES // steps_per_epoch} epochs of these data. Received: "
                f"{updates} updates"
            )


def rewind_step(config: "Config", steps_per_epoch: int) -> int:
    """Return the step of --rewind_to, 0 without.

    Raises:
        InputError: the step is not before the end of training.
    """
    step = parse_step("--rewind_to", config.rewind_to or "0", steps_per_epoch)
    steps = config.epochs * steps_per_epoch
    if step >= steps:
        raise InputError(
            f"--rewind_to={config.rewind_to}: expected a step before the end of training, {steps}. "
            f"Received: {step}"
        )
    return step
