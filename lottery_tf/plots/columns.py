"""What the columns of metrics.csv and history.csv are: {column: (unit, description)}.

TensorBoard shows the descriptions, and docs/reference/outputs.md lists them.
"""

_TRAINED = {
    "train_loss": ("nats", "mean training cross-entropy over the epoch, without other losses"),
    "train_accuracy": ("fraction", "training accuracy over the epoch, while weights change"),
    "test_loss": ("nats", "cross-entropy on the test split"),
    "test_accuracy": ("fraction", "accuracy on the test split"),
    "test_largest_class": (
        "fraction",
        "fraction of the test examples given the commonest class",
    ),
    "repel_loss": ("", "J_r with its strength"),
    "cosine_nearest": ("", "largest cosine to an earlier optimum, on the weights alive"),
    "cosine_mean": ("", "mean cosine to the earlier optima, on the weights alive"),
}
EPOCH = {
    "epoch": ("", "number of the epoch, from 1"),
    "step": ("steps", "updates since the start of the round's schedule"),
    "learning_rate": ("", "learning rate of the last step"),
    **_TRAINED,
    "seconds": ("seconds", "time of the epoch, with evaluation"),
    "train_seconds": ("seconds", "time of its training steps"),
}
ROUND = {
    "round": ("", "number of the round, from 0"),
    "density": ("fraction", "fraction of the prunable weights that the round trains"),
    "kernel_density": (
        "fraction",
        "surviving fraction of all kernels, also frozen ones and those without a mask",
    ),
    "threshold": ("", "largest score that was pruned after the round; by default |w|"),
    "smallest_kept": ("", "smallest score that was kept"),
    "remaining": ("weights", "number of weights that the pruning left"),
    **{name: (unit, f"{about}; last epoch") for name, (unit, about) in _TRAINED.items()},
    "barrier": ("fraction", "error barrier to the round before, on the validation examples"),
    "seconds": ("seconds", "time of the round"),
    "train_seconds": ("seconds", "time of its training steps"),
    "compile_seconds": ("seconds", "time of compiling its program"),
    "collapse": ("", "why the round has collapsed; empty if it has not"),
    "epochs": ("epochs", "number of trained epochs"),
}
REPULSION = {
    "optimum": ("", "the earlier optimum"),
    "kernel": ("", "path of the kernel, or all"),
    "cosine": ("", "cosine between the weights and the optimum"),
    "sign_agreement": ("fraction", "fraction of the weights with the optimum's sign"),
    "norm_share": ("fraction", "the kernel's share of the squared norm"),
    "norm_share_then": ("fraction", "that share at the optimum"),
}
# {what a tag begins with: description} of the tags that show no column
TAGS = {
    "round/collapsed": "1 if the round has collapsed, else 0",
    "round/collapse": "why the round has collapsed",
    "custom_scalars__config__": "the page Custom Scalars, with training and test in one chart",
    "report/flags": "the flags of a run that are not the defaults, of tools.report",
    "report/verdicts": "the verdicts on a run, of tools.report",
    "surviving weights/": "surviving weights of a kernel, or of all, at the end of the round",
    "figures/": "a figure of a study",
    "_hparams_/": "flags and results of the runs of a study, on TensorBoard's page HParams",
}


def about(group: str, column: str) -> str:
    """Return the description of a column: that of the `group` "round" or "epoch"."""
    return (ROUND if group == "round" else EPOCH)[column][1]
