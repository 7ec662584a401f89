"""`RunDir`, the reader of a run directory, at its public place."""

from lottery_tf.runs.rundir import RunDir

__all__ = ["RunDir"]
