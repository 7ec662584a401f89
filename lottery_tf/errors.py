"""What stops a command without a traceback: wrong input, and a lost worker."""


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


LOST = 74  # exit status when another worker is lost


class WorkerLost(Exception):
    """Another worker died or stopped answering; launched again, the run continues.

    Commands print it without a traceback and exit with status LOST.
    """
