"""Training: the loop, its settings, checkpoints, the run folder, evaluation, and the progress display."""

from rheobase.training import checkpoint
from rheobase.training.display import Display, JsonLines, LiveDisplay, PlainLines, Plan, display_for
from rheobase.training.engine import Engine
from rheobase.training.evaluate import Evaluation, evaluate
from rheobase.training.fit import Result, fit
from rheobase.training.folder import RunFolder
from rheobase.training.groups import parameter_groups
from rheobase.training.growing_steps import GrowingSteps
from rheobase.training.settings import Training
from rheobase.training.trainer import Optimize, Regularizer

__all__ = [
    "Display",
    "Engine",
    "Evaluation",
    "GrowingSteps",
    "JsonLines",
    "LiveDisplay",
    "Optimize",
    "PlainLines",
    "Plan",
    "Regularizer",
    "Result",
    "RunFolder",
    "Training",
    "checkpoint",
    "display_for",
    "evaluate",
    "fit",
    "parameter_groups",
]
