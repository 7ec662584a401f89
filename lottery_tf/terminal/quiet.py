"""Imports TensorFlow without the lines that it writes to standard error on the way."""

import contextlib
import os
import sys
import tempfile

from absl import logging

from lottery_tf.errors import InputError


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras; what they write to standard error is shown if they fail.

    Raises:
        InputError: Keras is told to run on another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Set or not, this wins over the user's keras.json.
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(
            f"Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow. Received: {backend}"
        )
    with _hold_back_stderr():
        import keras  # noqa: F401
        import tensorflow

        tensorflow.config.list_physical_devices("GPU")  # looks for drivers, and says so
    logging.set_verbosity(logging.ERROR)  # TensorFlow Datasets tells each file that it opens


@contextlib.contextmanager
def _hold_back_stderr():
    """Keeps file descriptor 2 in a file: TensorFlow's C++ code writes past sys.stderr."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
