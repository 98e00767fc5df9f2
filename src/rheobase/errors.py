"""What can go wrong for a user, by kind, so that a program can tell the kinds apart.

Wrong arguments raise Python's own `ValueError` and `TypeError`, as in PyTorch. The classes here are for what comes from outside
a call: files, run folders, recipes, and training that diverges. Every message names the item, what was found and what was
expected.
"""


class RheobaseError(Exception):
    """The base of all errors other than wrong arguments. The command line prints them without a traceback."""


class DataError(RheobaseError):
    """A data set is missing, damaged, or holds invalid values."""


class RunError(RheobaseError):
    """A run folder or a checkpoint cannot be used: it is not a run, incomplete, damaged, or belongs to another network."""


class RecipeError(RheobaseError):
    """A recipe or one of its settings is unknown."""


class DivergenceError(RheobaseError):
    """Training produced a value that is not finite; the message says in which layer and at which step."""


class InteropError(RheobaseError):
    """A network cannot be exported to other programs, or imported from them; the message says which part, and why."""
