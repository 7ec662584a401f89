"""What stops a command without a traceback: wrong input, a missing extra, and a lost worker."""


class InputError(ValueError):
    """Wrong input: the message says what was expected, what came, and what to do.

    Commands print it without a traceback and exit with status 1.
    """


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by a line of this package: then it is not the user's input.

    Code that calls Keras or functions of the user, which raise anything, lets such errors through.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return module.split(".")[0] == __name__.split(".")[0] and not isinstance(error, InputError)


# {package: the extra of setup.cfg that installs it}, of those that not everyone needs.
EXTRAS = {
    "ai_edge_litert": "litert",
    "jinja2": "analysis",
    "matplotlib": "analysis",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "ray": "sweep",
    "scipy": "analysis",
    "tf2onnx": "onnx",
}


def install_line(package: str) -> str:
    """Return the line that installs a key of EXTRAS."""
    return f"pip install 'lottery_tf[{EXTRAS[package]}]'"


def not_installed(package: str, needed_by: str) -> InputError:
    """Make the error that a package of an extra is not installed; it names the line for pip.

    Args:
        package: a key of EXTRAS.
        needed_by: the flag or command that cannot do without it.
    """
    return InputError(
        f"{needed_by} needs {package}, which is not installed: {install_line(package)}"
    )


LOST = 74  # exit status when another worker is lost


class WorkerLost(Exception):
    """Another worker died or stopped answering; launched again, the run continues.

    Commands print it without a traceback and exit with status LOST.
    """
