"""Imports what a run imports, so that runs can be forked from a process that has it."""

from lottery_tf.terminal import quiet

quiet.import_tensorflow()

from lottery_tf.training import chief, engine, resumable, rewinding  # noqa: E402, F401
