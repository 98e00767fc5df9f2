"""What all recipes share: the seed decides the weights, and training writes down what it was."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import rheobase as rb
from rheobase.data import Splits
from rheobase.recipes import Recipe
from rheobase.training import Display, RunFolder, Training
from training.tiny import network, settings, splits


@dataclass(frozen=True)
class Small(Recipe):
    """A recipe of a few neurons."""

    hidden: tuple[int, ...] = (4,)
    training: Training = field(default_factory=lambda: settings(epochs=1))

    def splits(self, data_dir: Path | None = None, *, download: bool = False) -> Splits:
        return Splits(*splits(), {"again": splits()[2]})

    def network(self) -> rb.Sequential:
        return network(seed=int(torch.randint(1000, ())), hidden=self.hidden[0])


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = Small().seeded_network().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = Small().seeded_network().state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    third = Small(training=settings(seed=6)).seeded_network().state_dict()
    assert not all(torch.equal(value, third[name]) for name, value in one.items())


def test_a_recipe_trains_and_writes_down_its_settings(tmp_path: Path) -> None:
    recipe = Small()
    result = recipe.train(recipe.splits(), run=tmp_path / "a", about={"recipe": "small"}, display=Display())
    again = {"accuracy": result.test.accuracy, "loss": result.test.loss, "samples": 11}
    assert result.summary["also_tested"]["again"] == again
    config = RunFolder(tmp_path / "a").config
    assert config["recipe"] == "small"
    assert config["config"]["hidden"] == [4]
    assert config["config"]["training"]["epochs"] == 1


def test_a_recipe_has_to_say_what_it_is() -> None:
    with pytest.raises(NotImplementedError):
        Recipe().splits()
    with pytest.raises(NotImplementedError):
        Recipe().network()
