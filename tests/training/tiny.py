"""The smallest problems that still have everything: events with augmentation, dropout, learned decays, a last batch that
is not full, and validation sets that no number of processes divides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

import rheobase as rb
from rheobase.data import ArrayDataset, Dataset, DropEvents, EventDataset, Events, ShiftChannels, ShiftTime
from rheobase.training import Display, Result, Training, fit

CHANNELS, STEPS, CLASSES = 8, 6, 3
TIMINGS = ("seconds", "samples_per_second", "peak_memory_mib")
SOURCE = Path(rb.__file__).parents[1]


def events(samples: int, seed: int) -> EventDataset:
    """Recordings whose class is the third of the channels that is busiest."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    counts = rng.integers(6, 12, samples)
    times = [np.sort(rng.random(count) * STEPS * 0.01) for count in counts]
    units = [
        np.clip(rng.normal(1.2 + 2.6 * label, 1.2, len(t)).round(), 0, CHANNELS - 1)
        for label, t in zip(labels, times, strict=True)
    ]
    return EventDataset(
        Events(
            np.concatenate(times).astype(np.float32),
            np.concatenate(units).astype(np.int32),
            np.concatenate(([0], np.cumsum(counts))),
            labels,
            channels=CHANNELS,
            classes=("low", "middle", "high"),
        ),
        dt=0.01,
        steps=STEPS,
    )


def splits() -> tuple[Dataset, Dataset, Dataset]:
    """Training with augmentation, validation and test."""
    augmented = events(37, seed=1).augmented(ShiftTime(0.01), ShiftChannels(1), DropEvents(0.2))
    return augmented, events(7, seed=2), events(11, seed=3)


def arrays(samples: int = 37, seed: int = 1) -> ArrayDataset:
    """The same as tensors, without augmentation."""
    data = events(samples, seed)
    return ArrayDataset(data.batch(np.arange(samples))[0], data.labels, data.classes)


def network(seed: int = 0, dropout: float = 0.2, hidden: int = 10) -> rb.Sequential:
    """Two layers with learned decays and thresholds; its weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return rb.Sequential(
            nn.Linear(CHANNELS, hidden),
            rb.LIF(hidden, decay=0.8, threshold=0.5, learn=("decay", "threshold")),
            rb.Dropout(dropout),
            nn.Linear(hidden, CLASSES),
            rb.LeakyReadout(CLASSES, learn=("decay",)),
            input_rate=None,
        )


def settings(**changes: Any) -> Training:
    """Few epochs in small batches, fast learning."""
    return Training(**{"epochs": 3, "batch_size": 8, "learning_rate": 0.03, "device": "cpu", "seed": 5, **changes})


def train(run: Path | None = None, *, display: Display | None = None, resume: bool = False, **changes: Any) -> Result:
    """A whole run on events, in silence."""
    return fit(network(), *splits(), settings(**changes), run=run, resume=resume, display=display or Display())


class Killed(Exception):
    """Stands for a kill, in the same process."""


class Stop(Display):
    """Stops a run by an exception when it tells of a certain step or epoch."""

    def __init__(self, *, step: tuple[int, int] | None = None, epoch: int | None = None) -> None:
        self._step, self._epoch = step, epoch

    def step(self, epoch: int, step: int) -> None:
        if (epoch, step) == self._step:
            raise Killed

    def epoch(self, metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == self._epoch:
            raise Killed


class Wrapped:
    """A data set that hands on to another; the tests override what they watch."""

    def __init__(self, inner: Dataset) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    classes = property(lambda self: self.inner.classes)
    features = property(lambda self: self.inner.features)
    steps = property(lambda self: self.inner.steps)
    labels = property(lambda self: self.inner.labels)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inner[index]

    def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.batch(indices, seed)

    def subset(self, indices: np.ndarray) -> Dataset:
        return self.inner.subset(indices)

    def fingerprint(self) -> str:
        return self.inner.fingerprint()


def untimed(values: Any) -> Any:
    """JSON without what a clock or the system's load decides."""
    if isinstance(values, dict):
        return {name: untimed(value) for name, value in values.items() if name not in TIMINGS}
    return [untimed(value) for value in values] if isinstance(values, list) else values


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors, and its position without timings."""
    with safe_open(path, framework="pt") as file:
        position = json.loads(file.metadata()["position"])
        return {name: file.get_tensor(name) for name in file.keys()}, untimed(position)  # noqa: SIM118


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without timings; each line must be a JSON object without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lines = path.read_text(encoding="utf-8").splitlines()
    return [untimed(json.loads(line, parse_constant=refuse)) for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs have left behind is the same, bit for bit, timings aside."""
    for name in ("checkpoint.safetensors", "best.safetensors"):
        ours, position = tensors(one / name)
        theirs, other_position = tensors(other / name)
        assert position == other_position
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.dtype == theirs[key].dtype
            assert value.shape == theirs[key].shape
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), (name, key)
    assert read_lines(one / "metrics.jsonl") == read_lines(other / "metrics.jsonl")
    read_summary: Callable[[Path], Any] = lambda path: untimed(json.loads((path / "summary.json").read_text()))  # noqa: E731
    assert read_summary(one) == read_summary(other)
    with np.load(one / "evaluation.npz") as ours, np.load(other / "evaluation.npz") as theirs:
        assert set(ours.files) == set(theirs.files)
        for key in ours.files:
            assert ours[key].dtype == theirs[key].dtype
            assert ours[key].tobytes() == theirs[key].tobytes(), key
