"""Imports TensorFlow without the lines that it writes to standard error on the way."""

import contextlib
import os
import sys
from collections.abc import Iterator

from lottery_tf.errors import InputError

# What networks and results depend on; a user's keras.json may say otherwise.
SETTINGS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
# TensorFlow reads it once, while it is imported.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def import_tensorflow(onednn: bool | None = True) -> None:
    """Import TensorFlow and Keras; show what they write to standard error only if they fail.

    A Keras that is imported here gets the SETTINGS, whatever the user's keras.json says. The
    environment of the process stays as it is.

    Args:
        onednn: whether convolutions on a CPU run in oneDNN, which TensorFlow takes by itself only
            on CPUs with AVX-512 VNNI or newer; None leaves that to TensorFlow. What the user has
            set in TF_ENABLE_ONEDNN_OPTS wins. It has no effect once TensorFlow is imported.

    Raises:
        InputError: Keras is told to run on another backend, or was imported before and has other
            settings, which the rest of the process may need.
    """
    is_new = "keras" not in sys.modules
    if (chosen := backend()) != "tensorflow":
        raise InputError(
            f"Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow. Received: {chosen}"
        )
    try:
        with (
            hold_back_stderr(),
            environment_kept("TF_CPP_MIN_LOG_LEVEL"),
            environment_kept("KERAS_BACKEND"),
            environment_kept(ONEDNN),
        ):
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
            if onednn is not None:
                os.environ.setdefault(ONEDNN, str(int(onednn)))
            import keras
            import tensorflow

            tensorflow.config.list_physical_devices("GPU")  # looks for drivers, and says so
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"Keras cannot be imported, perhaps for its settings in keras.json (in KERAS_HOME, or "
            f"~/.keras) or in variables KERAS_*: {error}"
        ) from None
    for name, value in SETTINGS.items():
        found = getattr(keras.config, name)()
        if is_new:
            getattr(keras.config, f"set_{name}")(value)
        elif found != value:
            raise InputError(
                f"Keras's {name}: expected {value}. Received: {found}. Call "
                f"keras.config.set_{name}({value!r}) first."
            )


def backend() -> str:
    """Return the backend that Keras runs on, or will as KERAS_BACKEND says once it is imported."""
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    return os.environ.get("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Let imports of a package that is not imported yet fail meanwhile. For commands alone."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def environment_kept(name: str) -> Iterator[None]:
    """Restore a variable of the environment afterwards: packages set some when imported."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2: TensorFlow's C++ code bypasses sys.stderr."""
    import tempfile  # here: `--help` needs none

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
