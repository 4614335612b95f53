"""The one exception that stands for a mistake of the user, not of the program."""


class UsageError(ValueError):
    """Something the user gave cannot work; the message is one line and says what, where, and what to do.

    Entry points print it on stderr and exit with status 2; a Python user catches it as a `ValueError`.
    """
