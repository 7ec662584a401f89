"""What the flags of a Config must be together, and which flags need another."""

import re
from typing import Any

from lottery_tf import datasets, models
from lottery_tf.config.fields import format_value
from lottery_tf.config.methods import USELESS_BESIDE, check_methods
from lottery_tf.datasets import DATASETS, is_directory
from lottery_tf.errors import InputError
from lottery_tf.models import MODELS
from lottery_tf.pruning.schedules import check_drops
from lottery_tf.pruning.streams import SEEDS
from lottery_tf.terminal import quiet

# name: module:function of the Config. It stands here, as this room imports no framework.
OPTIMIZERS = {
    "adam": "lottery_tf.training.optimizers:adam",
    "momentum": "lottery_tf.training.optimizers:momentum",
}

# A flag that does nothing alone: the flag that it needs, and its values that will do; with none
# of these, any but zero.
NEEDS = {
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
    "layer_fractions": ("scope", ("layer",)),
    "prune_schedule": ("prune_at", ("train",)),
    "prune_begin": ("prune_at", ("train",)),
    "prune_end": ("prune_at", ("train",)),
    "prune_frequency": ("prune_at", ("train",)),
    "connected_error": ("early_stop", ("connected",)),
    "short_epochs": ("early_stop", ("connected",)),
    "validation_fraction": ("early_stop", ("connected",)),
}
# A flag of the network: the parameter that a network which heeds it has.
OF_NETWORK = {
    "initializer": "initializer",
    "shortcut": "shortcut",
    "bn_affine": "bn_affine",
    "sync_bn": "bn_affine",
}


def check_together(config: Any) -> None:
    """Raises InputError if flags of a Config do not go together."""
    if config.model not in MODELS and ":" not in config.model:
        raise InputError(
            f"--model: expected one of {', '.join(MODELS)}, or package.module:function. "
            f"Received: {config.model}"
        )
    if config.dataset not in DATASETS and not is_directory(config.dataset):
        raise InputError(
            f"--dataset: expected one of {', '.join(DATASETS)}, or a directory with a "
            f"dataset_info.json. Received: {config.dataset}"
        )
    if config.test_fraction and config.test_split:
        raise InputError(
            "--test_fraction evaluates on a part of --train_split, --test_split on another split: "
            f"leave one of them out. Received: --test_fraction={config.test_fraction} "
            f"--test_split={config.test_split}"
        )
    if config.repel_from not in ("all", "previous") and not (
        re.fullmatch("[0-9]+", config.repel_from) and int(config.repel_from) > 0
    ):
        raise InputError(
            "--repel_from: expected all, previous, or a positive number of rounds. Received: "
            f"{config.repel_from}"
        )
    if config.batch_size % config.accumulate_steps:
        raise InputError(
            f"--accumulate_steps: expected a divisor of --batch_size={config.batch_size}. "
            f"Received: {config.accumulate_steps}"
        )
    if config.schedule == "step":
        check_drops(config.lr_drops, config.epochs)
    check_methods(config)


def check_new(config: Any) -> None:
    """Raises InputError for what no new run may do, though some of an older version did."""
    for name in ("seed", "init_seed", "data_seed"):
        if (seed := getattr(config, name)) >= SEEDS:
            raise InputError(f"--{name}: expected a number below {SEEDS}. Received: {seed}")
    if config.warmup_epochs > config.epochs:
        raise InputError(
            f"--warmup_epochs: expected at most --epochs={config.epochs}, or the rate never rises "
            f"to --learning_rate. Received: {config.warmup_epochs}"
        )
    if config.early_stop == "connected" and not config.validation_fraction:
        raise InputError(
            "--early_stop=connected measures the barrier between two rounds on examples that are "
            "held out of the training, where networks make errors: add --validation_fraction=0.1."
        )
    if config.early_stop == "connected" and config.prunes_at == "train":
        raise InputError(
            "--early_stop=connected does not go with --prune_at=train: a short round would end "
            "before it has reached its density. Leave one of them out."
        )
    if config.early_stop == "connected" and config.reset == "finetune":
        raise InputError(
            "--early_stop=connected does nothing to --reset=finetune, whose rounds train for "
            "--finetune_epochs: leave it out, and lower those."
        )


def check_given(config: Any, given: set[str]) -> None:
    """Raises InputError if a flag that the command line gave would do nothing.

    Args:
        config: Config.
        given: names of the flags on the command line; those of flag files may be meant for
            another variant of the experiment.
    """
    for name in given & NEEDS.keys():
        needed, values = NEEDS[name]
        found = getattr(config, needed)
        # A network of the user's own may name any flag.
        if not (found in values if values else found) and name not in _of_users_own(config):
            wanted = " or ".join(f"--{needed}={value}" for value in values) or f"--{needed}"
            raise InputError(
                f"--{name} does nothing without {wanted}: add it, or leave --{name} out. "
                f"Received: --{needed}={found}"
            )
    for other, useless in USELESS_BESIDE.items():
        if getattr(config, other) and (both := sorted(given.intersection(useless))):
            raise InputError(
                f"--{both[0]} does nothing beside --{other}={format_value(getattr(config, other))}:"
                " leave one of them out."
            )
    _check_network(config, given & OF_NETWORK.keys())
    if "seed" in given and config.seed not in (config.init_seed, config.data_seed):
        raise InputError(
            "--seed does nothing beside --init_seed and --data_seed: leave it, or one of them, out."
        )
    if "image_size" in given and datasets.find(config).one_size:
        raise InputError(
            f"--image_size expects images of varying size; those of {config.dataset} have one. "
            "Leave it out."
        )


def _of_users_own(config):
    return () if config.model in MODELS else _parameters(config)


def _parameters(config):
    quiet.import_tensorflow()  # the network's module imports Keras
    return models.parameters(config.model)


def _check_network(config, given):
    """Raises InputError if the network does not heed a flag."""
    for name in given:
        parameter = OF_NETWORK[name]
        if parameter in _parameters(config) or (name == "sync_bn" and config.model not in MODELS):
            continue
        able = [model for model in MODELS if parameter in models.parameters(model)]
        raise InputError(
            f"--{name} does nothing to {config.model}, whose function does not name {parameter}. "
            f"Leave it out, or use --model={', '.join(able)}."
        )
