"""What a run is started with: it goes on with the same data, settings and layers, or not at all.

A run that went on with others would end as neither of the two would have ended, and nobody would be told. It is written down
when the run's folder is made, for a kill may come before the first checkpoint, and in every checkpoint.
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
        words: what else must be the same, by `rheobase.training.described`.
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
    """Refuse to go on with other data or settings than those that a run was started with.

    Args:
        path: the run's folder, for messages.
        data: the fingerprints of its data.
        settings: its settings, JSON.
        now: the position before the first epoch, of the run that would go on.

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
    """In words, as far as that was written down."""
    if not isinstance(started, dict):
        raise TypeError(f"expected an object, got {str(started)[:60]}")
    return ", ".join(
        f"{name} {value}, not {now[name]}" for name, value in started.items() if name in now and value != now[name]
    )
