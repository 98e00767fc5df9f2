"""The tasks that methods are compared on: their sizes, their codes, their splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rheobase.data import EventDataset, ImageDataset, Images
from rheobase.recipes import tasks
from rheobase.recipes.tasks import TASKS, load_task


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
    splits = load_task(name)
    x, _ = splits.test.batch(np.arange(3))
    assert x.shape == (784, 3, 1)
    in_order = torch.from_numpy(images.pixels[:3].reshape(3, 784)).float().T / 255
    assert torch.equal(x[:, :, 0], in_order) == (name == "sequential-mnist")


def test_what_is_simulated_says_so() -> None:
    assert "simulated" in TASKS["n-mnist-simulated"].title


@pytest.mark.parametrize("samples", [0, 20_000])
def test_too_few_or_too_many_samples(samples: int) -> None:
    with pytest.raises(ValueError, match=f"samples must be from 1 to 19999, or None for all, got {samples}"):
        load_task("yin-yang", samples=samples)
