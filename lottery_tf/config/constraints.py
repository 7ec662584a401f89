"""What the flags of a Config must be together, or as names of things that are elsewhere."""

from lottery_tf.datasets import DATASETS, is_directory
from lottery_tf.errors import InputError
from lottery_tf.method.schedules import check_drops
from lottery_tf.models import MODELS


def check_together(config):
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
    if config.repel_from not in ("all", "previous") and not (
        config.repel_from.isdigit() and int(config.repel_from) > 0
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
