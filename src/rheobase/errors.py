"""What can go wrong for a user, by kind, so that a program can tell the kinds apart.

Wrong arguments raise Python's own `ValueError` and `TypeError`, as in PyTorch. The classes here are for what comes from
outside a call: files, run folders, recipes, and training that diverges. Every message names the thing, what was found and
what was expected.
"""


class RheobaseError(Exception):
    """The base of all errors that are not a wrong argument. The command line prints them without a traceback."""


class DataError(RheobaseError):
    """A data set is missing, damaged, or holds values that it must not hold."""


class RunError(RheobaseError):
    """A run folder or a checkpoint cannot be used: not a run, incomplete, damaged, or of another network."""


class RecipeError(RheobaseError):
    """A recipe or one of its settings is unknown."""


class DivergenceError(RheobaseError):
    """Training produced a value that is not finite; the message says in which layer and at which step."""


class InteropError(RheobaseError):
    """A network cannot be written for other programs, or read from them; the message says what of it, and why."""
