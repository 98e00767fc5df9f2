"""Data sets as tasks for the recipes that compare methods: the same split, coded the same way, whatever the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from rheobase.data import (
    EventDataset,
    ImageDataset,
    Progress,
    Splits,
    fashion_mnist,
    mnist,
    split,
    spoken_digits,
)

TaskName = Literal["spoken-digits", "mnist", "fashion-mnist"]


@dataclass(frozen=True)
class Task:
    """The size of a task."""

    title: str
    channels: int
    classes: int
    steps: int


TASKS: Mapping[TaskName, Task] = MappingProxyType(
    {
        "spoken-digits": Task("spoken digits (cochlea spikes, compact set)", 140, 10, 100),
        "mnist": Task("MNIST, one spike per pixel", 784, 10, 100),
        "fashion-mnist": Task("Fashion-MNIST, one spike per pixel", 784, 10, 100),
    }
)


def load_task(
    name: TaskName,
    samples: int | None = None,
    data_dir: Path | None = None,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> Splits:
    """The official split of a task, a tenth of the training set kept for validation.

    Args:
        name: which task.
        samples: keep so many samples for training, every class in proportion; None keeps all.
        data_dir: the folder with data sets.
        download: fetch what is missing.
        progress: told how a download goes.

    Raises:
        DataError: if data is missing or damaged.
        ValueError: if there are not so many samples.
    """
    steps = TASKS[name].steps
    if name == "spoken-digits":
        train, test = (EventDataset(events, dt=0.01, steps=steps) for events in spoken_digits("compact", data_dir))
    else:
        load = {"mnist": mnist, "fashion-mnist": fashion_mnist}[name]
        images = load(data_dir, download=download, progress=progress)
        train, test = (ImageDataset(part, steps=steps, encoding="latency") for part in images)
    train, validation = split(train, 0.1, seed=0)
    if samples is not None:
        if not 0 < samples < len(train):
            raise ValueError(f"samples must be from 1 to {len(train) - 1}, or None for all, got {samples}")
        train = train.subset(np.sort(np.random.default_rng(0).permutation(len(train))[:samples]))
    return Splits(train, validation, test)
