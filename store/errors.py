"""The two kinds of failure a person hears about; every other exception is a bug and stops the run."""


class UserError(Exception):
    """A bad input or a broken surrounding: one sentence saying what was wrong, what is allowed, what to do.

    The command line prints it on stderr without a traceback and exits with code 2.
    """


class StoreBusy(UserError):
    """The store was held by another process for longer than the time limit."""
