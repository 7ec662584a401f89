"""The unit in which people see a column: parts of one in percent. Files keep them as they are."""

PARTS = {
    "density", "train_accuracy", "test_accuracy", "instability", "error_barrier",
    "error_barrier_larger_end",
}  # fmt: skip


def of(column: str) -> tuple[str, float]:
    """(what to add to the name, what to multiply by) of a column."""
    return (" (%)", 100.0) if column in PARTS else ("", 1.0)
