"""The one exception that means "the input is wrong", not "the program is wrong"."""


class InputError(ValueError):
    """Wrong input: the message says what was expected, what came, and what to do.

    Commands print it without a traceback and exit with status 1.
    """
