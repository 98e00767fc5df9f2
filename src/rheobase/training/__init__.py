"""Training: the loop, its settings, checkpoints, the run folder, evaluation, and what the user sees meanwhile."""

from rheobase.training.display import Display, JsonLines, Plain, Plan, Quiet, display_for
from rheobase.training.evaluate import Evaluation, evaluate
from rheobase.training.fit import Result, fit
from rheobase.training.folder import RunFolder
from rheobase.training.settings import Training

__all__ = [
    "Display",
    "Evaluation",
    "JsonLines",
    "Plain",
    "Plan",
    "Quiet",
    "Result",
    "RunFolder",
    "Training",
    "display_for",
    "evaluate",
    "fit",
]
