"""The unit in which people see a column: parts of one in percent. Files keep them as they are."""

# Every column, of any table, whose values are parts of one; those of replicates end in _min, _max.
PARTS = {
    "density", "network_density", "layer_density", "kernel_density", "matching",
    "train_accuracy", "test_accuracy", "imp_accuracy", "test_largest_class", "over_dense",
    "lead", "lead_low", "lead_high",
    "instability", "error_barrier", "error_barrier_larger_end", "largest_barrier",
    "kept_signs", "flips", "prune_fraction",
}  # fmt: skip


def of(column: str) -> tuple[str, float]:
    """(what to add to the name, what to multiply by) of a column."""
    plain = column.removesuffix("_min").removesuffix("_max")
    return (" (%)", 100.0) if plain in PARTS else ("", 1.0)
