"""Imports TensorFlow without the lines that it writes to standard error on the way."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging

from lottery_tf.errors import InputError

# What networks and results depend on; a user's keras.json may say otherwise.
SETTINGS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras; what they write to standard error is shown if they fail.

    Keras gets the SETTINGS, whatever the user's keras.json says.

    Raises:
        InputError: Keras is told to run on another backend, or was imported before and has other
            settings, which the rest of the process may need.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Set or not, this wins over the user's keras.json.
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(
            f"Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow. Received: {backend}"
        )
    is_new = "keras" not in sys.modules
    try:
        with hold_back_stderr():
            import keras  # noqa: F401
            import tensorflow

            tensorflow.config.list_physical_devices("GPU")  # looks for drivers, and says so
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"Keras cannot be imported, perhaps for its settings in keras.json (in KERAS_HOME, or "
            f"~/.keras) or in variables KERAS_*: {error}"
        ) from None
    logging.set_verbosity(logging.ERROR)  # TensorFlow Datasets tells each file that it opens
    _settle(is_new)


def _settle(is_new):
    import keras

    for name, value in SETTINGS.items():
        set_value, found = getattr(keras.config, f"set_{name}"), getattr(keras.config, name)()
        if is_new:
            set_value(value)
        elif found != value:
            raise InputError(
                f"Keras's {name}: expected {value}. Received: {found}. Call "
                f"keras.config.set_{name}({value!r}) first."
            )


@contextlib.contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Keeps file descriptor 2 in a file: TensorFlow's C++ code writes past sys.stderr."""
    try:
        sys.stderr.flush()
        saved, aside = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115
    except (AttributeError, OSError):  # it is closed, or no temporary directory takes a file
        yield
        return
    with aside as held:
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
