"""What stops a command without a traceback: wrong input, and a lost worker."""


class InputError(ValueError):
    """Wrong input: the message says what was expected, what came, and what to do.

    Commands print it without a traceback and exit with status 1.
    """


LOST = 74  # exit status when another worker is lost


class WorkerLost(Exception):
    """Another worker died or stopped answering; launched again, the run continues.

    Commands print it without a traceback and exit with status LOST.
    """
