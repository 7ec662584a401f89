"""Pictures, TensorBoard's files and tables."""

from typing import Any

Row = dict[str, Any]  # {column: number or text} of a table
Columns = dict[str, tuple[str, str]]  # {column: (title, format)} to print

# Every column, of any table, whose values are parts of one; those of replicates end in _min, _max.
PARTS = {
    *("density", "network_density", "layer_density", "kernel_density", "matching"),
    *("train_accuracy", "test_accuracy", "imp_accuracy", "test_largest_class", "over_dense"),
    *("lead", "lead_low", "lead_high"),
    *("instability", "error_barrier", "error_barrier_larger_end", "largest_barrier"),
    *("kept_signs", "flips", "prune_fraction"),
}


def unit_of(column: str) -> tuple[str, float]:
    """Return what to add to the name of a column, and what to multiply it by, to show it.

    People see parts of one in percent; files keep them as they are.
    """
    plain = column.removesuffix("_min").removesuffix("_max")
    return (" (%)", 100.0) if plain in PARTS else ("", 1.0)
