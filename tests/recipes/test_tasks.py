"""The tasks that methods are compared on: their sizes, their codes, their splits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from rheobase.data import (
    EventDataset,
    Events,
    ImageDataset,
    Images,
    Recording,
    n_mnist_files,
    write_events,
    write_n_mnist,
)
from rheobase.errors import DataError
from rheobase.recipes import SingleSpikes, Thresholds, tasks
from rheobase.recipes.tasks import SEQUENCES, TASKS, SequenceName, Task, TaskName, load_task


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST and Fashion-MNIST of 60 pictures each."""
    rng = np.random.default_rng(0)

    def load(data_dir: Path | None, *, download: bool, progress: object) -> tuple[Images, Images]:
        sets = [Images(rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60) % 10) for _ in range(2)]
        return sets[0], sets[1]

    loaders = {name: tasks._images(load) for name in ("mnist", "fashion-mnist")}
    changed = {name: replace(task, load=loaders[name]) if name in loaders else task for name, task in TASKS.items()}
    monkeypatch.setattr(tasks, "TASKS", changed)


def test_yin_yang_needs_no_data() -> None:
    splits = load_task("yin-yang")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20_000, 2_000, 10_000)
    x, _ = splits.train.batch(np.arange(5))
    assert x.shape == (100, 5, 4)
    assert bool((x.sum(0) == 1).all())  # every coordinate is one spike


def test_spoken_digits() -> None:
    splits = load_task("spoken-digits", samples=50)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50, 25, 300)
    assert len(load_task("spoken-digits", samples=600).validation) == 270  # all there are
    assert isinstance(splits.train, EventDataset)
    assert splits.train.steps == TASKS["spoken-digits"].steps == 100


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_pictures(name: str) -> None:
    splits = load_task(name, augment=True)
    assert isinstance(splits.train, ImageDataset)
    assert splits.train.augment == TASKS[name].augment != ()
    assert isinstance(splits.validation, ImageDataset)
    assert splits.validation.augment == ()
    assert len(splits.train) + len(splits.validation) == 60
    x, _ = splits.test.batch(np.arange(3))
    assert x.shape == (100, 3, 784)
    assert bool((x.sum(0) == 1).all())
    small = load_task(name, steps=8, flatten=False)
    assert small.train.batch(np.arange(2))[0].shape == (8, 2, 1, 28, 28)
    assert isinstance(small.train, ImageDataset)
    assert small.train.augment == ()


@pytest.mark.parametrize("name", ["sequential-mnist", "permuted-mnist"])
def test_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60) % 10)
    monkeypatch.setattr(tasks, "mnist", lambda **_: (images, images))
    splits = load_task(SEQUENCES[name])
    x, _ = splits.test.batch(np.arange(3))
    assert x.shape == (784, 3, 1)
    in_order = torch.from_numpy(images.pixels[:3].reshape(3, 784)).float().T / 255
    assert torch.equal(x[:, :, 0], in_order) == (name == "sequential-mnist")


def test_the_tables_have_all_names() -> None:
    assert set(TASKS) == set(get_args(TaskName))
    assert set(SEQUENCES) == set(get_args(SequenceName))


@pytest.mark.parametrize(
    ("task", "dt", "steps"), [(TASKS["shd"], 0.002, 500), (SEQUENCES["shd"], 0.001, 1370)], ids=["tasks", "sequences"]
)
def test_shd(tmp_path: Path, task: Task, dt: float, steps: int) -> None:
    assert (task.title, task.channels, task.classes, task.steps) == ("Spiking Heidelberg Digits", 700, 20, steps)
    times, units = np.tile(np.float32([0.0035, 1.2]), 40), np.tile([699, 3], 40)
    labels, names = np.arange(40) % 20, tuple(f"digit {label}" for label in range(20))
    recordings = Events(times, units, 2 * np.arange(41), labels, 700, names)
    for part in ("train", "test"):
        (tmp_path / "shd").mkdir(exist_ok=True)
        write_events(tmp_path / f"shd/shd_{part}.h5", recordings)
    splits = load_task(task, data_dir=tmp_path)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 20, 40]
    x, _ = splits.test.batch(np.arange(4))
    assert x.shape == (steps, 4, 700)
    assert x[int(0.0035 / dt), :, 699].tolist() == [1] * 4
    assert x.sum() == 4 * (1 if steps * dt < 1.2 else 2)


@pytest.mark.parametrize(("name", "folder"), [("n-mnist", "n_mnist"), ("n-mnist-simulated", "n_mnist_simulated")])
def test_n_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: TaskName, folder: str) -> None:
    samples = {"Train": 20, "Test": 3}
    monkeypatch.setattr(n_mnist_files, "PARTS", samples)
    # Of each polarity an event at the same place and time; and one that is too late.
    recording = Recording(np.float32([0.0065, 0.0065, 0.3005]), np.int32([35, 35 + 1156, 1]), 2312)
    for part, count in samples.items():
        for number in range(1, count + 1):
            path = tmp_path / folder / part / str(number % 10) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_n_mnist(path, recording)
    if name == "n-mnist-simulated":
        (tmp_path / folder / "simulation.json").write_text(json.dumps({"done": samples, "samples": samples}))
    task = TASKS[name]
    assert (task.channels, task.classes, task.steps) == (1156, 10, 300)
    assert ("simulated" in task.title) == (name == "n-mnist-simulated")
    splits = load_task(name, data_dir=tmp_path)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 10, 3]
    x, labels = splits.test.batch(np.arange(3))
    assert labels.tolist() == [1, 2, 3]
    assert x.shape == (300, 3, 1156)
    assert x[6, :, 35].tolist() == [2] * 3
    assert x.sum() == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shd", r"shd/shd_train.h5.*: there is no such file.*--data-dir or RHEOBASE_DATA, or fetch it .* --download"),
        (
            "n-mnist",
            r"n_mnist/Train.zip: there is no such file.*--data-dir or RHEOBASE_DATA, or fetch it .* --download",
        ),
        ("n-mnist-simulated", r"there is no simulation of N-MNIST; `rheobase simulate n-mnist` makes it"),
    ],
)
def test_data_that_is_missing(tmp_path: Path, name: TaskName, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(name, data_dir=tmp_path)


@pytest.mark.parametrize("recipe", [SingleSpikes, Thresholds])
def test_methods_are_trained_on_the_published_data(recipe: type[SingleSpikes | Thresholds]) -> None:
    for name, inputs, classes in (("shd", 700, 20), ("n-mnist", 1156, 10)):
        shapes = [weight.shape for weight in recipe(task=name).network().parameters() if weight.ndim == 2]
        assert (shapes[0][1], shapes[-1][0]) == (inputs, classes)


@pytest.mark.parametrize("samples", [0, 20_000])
def test_too_few_or_too_many_samples(samples: int) -> None:
    with pytest.raises(ValueError, match=f"samples must be from 1 to 19999, or None for all, got {samples}"):
        load_task("yin-yang", samples=samples)
