"""What a run is started with: it resumes with the same data, settings and layers, or not at all.

A run that resumed with others would silently end as neither of the two would have. This is written when the run's folder is
made, since a kill may come before the first checkpoint, and in every checkpoint.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from rheobase.data import Dataset
from rheobase.errors import RunError
from rheobase.training.checkpoint import Position
from rheobase.training.settings import Training


def start_of(train: Dataset, validation: Dataset, settings: Training, words: Mapping[str, str]) -> Position:
    """The position before the first epoch.

    Args:
        train: the samples to learn from.
        validation: those that choose the epoch.
        settings: of training.
        words: what else must be the same, from `rheobase.training.described`.
    """
    return Position(
        epoch=0,
        best_epoch=0,
        best_accuracy=-1.0,
        best_loss=math.inf,
        seconds=0.0,
        data=f"{train.fingerprint()} {validation.fingerprint()}",
        settings=json.dumps({**settings.decisive(), **words}),
    )


def check_start(path: Path, data: object, settings: object, now: Position) -> None:
    """Refuse to resume with data or settings other than those that the run was started with.

    Args:
        path: the run's folder, for messages.
        data: the fingerprints of its data.
        settings: its settings, JSON.
        now: the position before the first epoch of the run to resume.

    Raises:
        RunError: saying what differs.
    """
    if data != now.data:
        raise RunError(f"{path}: the data is not what this run was started with; resume it with the same data")
    try:
        different = _difference(json.loads(str(settings)), json.loads(now.settings))
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: what this run was started with is damaged: {error}") from error
    if different:
        raise RunError(f"{path}: was started with {different}; resume it with the same settings, or start a new run")


def _difference(started: object, now: Mapping[str, object]) -> str:
    """In words, as far as recorded."""
    if not isinstance(started, dict):
        raise TypeError(f"expected an object, got {str(started)[:60]}")
    return ", ".join(
        f"{name} {value}, not {now[name]}" for name, value in started.items() if name in now and value != now[name]
    )
