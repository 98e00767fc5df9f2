"""Data sets as tasks for the recipes that compare methods: the same split and encoding for every network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from rheobase.data import (
    Dataset,
    EventDataset,
    Flip,
    ImageAugmentation,
    ImageDataset,
    Perspective,
    PixelNoise,
    PixelSequences,
    Progress,
    ShiftPixels,
    Splits,
    VectorDataset,
    draw_delayed_recall,
    draw_yin_yang,
    fashion_mnist,
    mnist,
    n_mnist,
    shd,
    split,
    spoken_digits,
)

TaskName = Literal[
    "yin-yang",
    "spoken-digits",
    "shd",
    "mnist",
    "fashion-mnist",
    "n-mnist",
    "n-mnist-simulated",
    "delayed-recall",
]

SequenceName = Literal["spoken-digits", "shd", "sequential-mnist", "permuted-mnist"]
"""Sequences that are long, or whose order matters."""


@dataclass(frozen=True)
class Task:
    """A task: its size, and how it is loaded.

    Args:
        title: for tables.
        channels: the number of input channels.
        classes: the number of classes.
        steps: the number of time steps T.
        load: the training set, its validation part and the test set, from the keyword arguments of `load_task`.
        augment: the augmentation of training images.
    """

    title: str
    channels: int
    classes: int
    steps: int
    load: Callable[..., tuple[Dataset, Dataset, Dataset]] = field(repr=False)
    augment: tuple[ImageAugmentation, ...] = ()


def load_task(
    task: TaskName | Task,
    *,
    samples: int | None = None,
    steps: int | None = None,
    flatten: bool = True,
    augment: bool = False,
    data_dir: Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Splits:
    """The official split of a task, with a tenth of the training set held out for validation.

    Args:
        task: its name, or the task itself, as for those of `SEQUENCES`.
        samples: keep only this many samples for training, and at most half as many for validation; None keeps all.
        steps: the number of time steps; None is that of the task.
        flatten: rows of pixels; otherwise images keep their shape, as convolutions need it.
        augment: change training images as the task says.
        data_dir: the folder of data sets.
        download: whether to download missing files.
        progress: called with the progress of a download.

    Raises:
        DataError: if data is missing or damaged.
        ValueError: if there are fewer samples.
    """
    task = TASKS[task] if isinstance(task, str) else task
    source = {"data_dir": data_dir, "download": download, "progress": progress}
    train, validation, test = task.load(steps=steps or task.steps, flatten=flatten, source=source)
    train = some_of(train, samples)
    if samples is not None and len(validation) > samples // 2 > 0:
        validation = some_of(validation, samples // 2)
    if augment and isinstance(train, ImageDataset):
        train = train.augmented(*task.augment)
    return Splits(train, validation, test)


def some_of(train: Dataset, samples: int | None) -> Dataset:
    """This many samples of a training set, the same for every training seed; None keeps all.

    Raises:
        ValueError: if there are fewer samples.
    """
    if samples is None:
        return train
    if not 0 < samples < len(train):
        raise ValueError(f"samples must be from 1 to {len(train) - 1}, or None for all, got {samples}")
    return train.subset(np.sort(np.random.default_rng(0).permutation(len(train))[:samples]))


def _yin_yang(*, steps: int, **_: Any) -> tuple[Dataset, Dataset, Dataset]:
    """20,000 points for training and 10,000 for the test, as the block model was tested; drawn, so there is no file to read."""
    sets = (draw_yin_yang(samples, seed) for samples, seed in ((20_000, 42), (2_000, 41), (10_000, 0)))
    train, validation, test = (VectorDataset(points, steps=steps, encoding="latency_all") for points in sets)
    return train, validation, test


def _delayed_recall(*, steps: int, **_: Any) -> tuple[Dataset, Dataset, Dataset]:
    """Drawn separately for each part; all but 15 of the steps are the delay."""
    train, validation, test = (draw_delayed_recall(samples, seed, delay=steps - 15) for samples, seed in _RECALL)
    return train, validation, test


_RECALL = ((4_000, 1), (500, 2), (1_000, 3))


def _spoken_digits(*, steps: int, source: Mapping[str, Any], **_: Any) -> tuple[Dataset, Dataset, Dataset]:
    parts = spoken_digits("compact", source["data_dir"])
    train, test = (EventDataset(events, dt=0.01, steps=steps) for events in parts)
    return *split(train, 0.1, seed=0), test


def _shd(dt: float) -> Callable[..., tuple[Dataset, Dataset, Dataset]]:
    def loaded(*, steps: int, source: Mapping[str, Any], **_: Any) -> tuple[Dataset, Dataset, Dataset]:
        train, test = (EventDataset(events, dt=dt, steps=steps) for events in shd(**source))
        return *split(train, 0.1, seed=0), test

    return loaded


def _pixels(permutation: int | None) -> Callable[..., tuple[Dataset, Dataset, Dataset]]:
    def loaded(*, source: Mapping[str, Any], **_: Any) -> tuple[Dataset, Dataset, Dataset]:
        train, test = (PixelSequences(images, permutation) for images in mnist(**source))
        return *split(train, 0.1, seed=0), test

    return loaded


def _n_mnist(simulated: bool) -> Callable[..., tuple[Dataset, Dataset, Dataset]]:
    def loaded(*, steps: int, source: Mapping[str, Any], **_: Any) -> tuple[Dataset, Dataset, Dataset]:
        parts = n_mnist(simulated=simulated, **source)
        train, test = (EventDataset(events, dt=0.001, steps=steps, merge_polarities=True) for events in parts)
        return *split(train, 0.1, seed=0), test

    return loaded


def _images(load: Callable[..., Any]) -> Callable[..., tuple[Dataset, Dataset, Dataset]]:
    def loaded(*, steps: int, flatten: bool, source: Mapping[str, Any]) -> tuple[Dataset, Dataset, Dataset]:
        train, test = (
            ImageDataset(images, steps=steps, encoding="latency_all", flatten=flatten) for images in load(**source)
        )
        return *split(train, 0.1, seed=0), test

    return loaded


TASKS: Mapping[TaskName, Task] = MappingProxyType(
    {
        "yin-yang": Task("Yin-Yang", 4, 3, 100, _yin_yang),
        "spoken-digits": Task("spoken digits (cochlea spikes, compact set)", 140, 10, 100, _spoken_digits),
        "shd": Task("Spiking Heidelberg Digits", 700, 20, 500, _shd(0.002)),
        "mnist": Task(
            "MNIST, one spike per pixel",
            784,
            10,
            100,
            _images(mnist),
            (Perspective(0.4, 0.7), ShiftPixels(3), PixelNoise(0.05, 0.5)),
        ),
        "fashion-mnist": Task(
            "Fashion-MNIST, one spike per pixel",
            784,
            10,
            100,
            _images(fashion_mnist),
            (Perspective(0.1, 0.3), Flip(0.5), ShiftPixels(1), PixelNoise(0.05, 0.5)),
        ),
        "delayed-recall": Task("delayed recall, the sum of two cues 25 steps apart", 30, 3, 40, _delayed_recall),
        "n-mnist": Task("N-MNIST, polarities merged", 1156, 10, 300, _n_mnist(simulated=False)),
        "n-mnist-simulated": Task("N-MNIST, simulated, polarities merged", 1156, 10, 300, _n_mnist(simulated=True)),
    }
)
"""Images are encoded and augmented, and SHD is binned, as for the block model (Taylor, King, Harper, arXiv 2205.15286, its
published program): steps of 2 ms, and events after one second are dropped."""

SEQUENCES: Mapping[SequenceName, Task] = MappingProxyType(
    {
        "spoken-digits": TASKS["spoken-digits"],
        "shd": replace(TASKS["shd"], steps=1370, load=_shd(0.001)),
        "sequential-mnist": Task("MNIST, one pixel a step", 1, 10, 784, _pixels(None)),
        "permuted-mnist": Task("MNIST, one pixel a step, in a random order", 1, 10, 784, _pixels(0)),
    }
)
"""SHD is binned as for stochastic neurons: steps of 1 ms, and nothing is left out."""
