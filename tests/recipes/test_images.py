"""MNIST and Fashion-MNIST, on a few made-up pictures in place of the real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rheobase as rb
from rheobase.data import Images
from rheobase.errors import DataError
from rheobase.recipes import FashionMnist, Mnist, Recipe
from rheobase.training import Display

KINDS = pytest.mark.parametrize("kind", [Mnist, FashionMnist])


def pictures(samples: int) -> Images:
    rng = np.random.default_rng(samples)
    x = rng.integers(0, 256, (samples, 1, 28, 28), dtype=np.uint8)
    return Images(x, np.arange(samples) % 10, tuple("0123456789"))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    load = staticmethod(lambda folder=None, *, download=False, progress=None: (pictures(60), pictures(20)))
    for kind in (Mnist, FashionMnist):
        monkeypatch.setattr(kind, "load", load)


@KINDS
@pytest.mark.parametrize("encoding", ["direct", "latency"])
def test_the_parts_and_a_short_training(made_up: None, kind: type[Recipe], encoding: str) -> None:
    recipe = kind(encoding=encoding, steps=4, hidden=(6,), training=rb.Training(epochs=1, batch_size=16, device="cpu"))
    splits = recipe.splits()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50, 10, 20)
    x, _ = splits.test.batch(np.arange(2))
    assert x.shape == (4, 2, 784)
    if encoding == "latency":
        assert set(x.unique().tolist()) <= {0.0, 1.0}
        assert (x.sum(0) <= 1).all()
    for part, changes in ((splits.train, True), (splits.validation, False), (splits.test, False)):
        plain, drawn = part.batch(np.arange(8))[0], part.batch(np.arange(8), (0, 1))[0]
        assert torch.equal(plain, drawn) is not changes
    result = recipe.train(splits, display=Display())
    assert [layer.name for layer in result.test.layers] == ["2 LIF(6)"]


@KINDS
def test_the_network_is_as_large_as_it_says(kind: type[Recipe]) -> None:
    network = kind().network()
    assert "784-400-400-10" in kind.__doc__
    assert [layer.out_features for layer in network if isinstance(layer, torch.nn.Linear)] == [400, 400, 10]
    assert network(torch.zeros(2, 3, 784)).shape == (2, 3, 10)


@KINDS
def test_without_data_the_remedy_is_named(kind: type[Recipe], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir or RHEOBASE_DATA"):
        kind().splits(tmp_path)
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_a_layer_without_neurons_is_refused(kind: type[Recipe]) -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1 neuron"):
        kind(hidden=(0,))
