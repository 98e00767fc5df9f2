"""Recipes: complete experiments, one readable file each, that `rheobase train NAME` runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from rheobase.errors import RecipeError
from rheobase.recipes.images import FashionMnist, Mnist
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.settings import build
from rheobase.recipes.single_spike import SingleSpikeConvolutions, SingleSpikes
from rheobase.recipes.spoken_digits import SpokenDigits
from rheobase.recipes.stability import Stability
from rheobase.recipes.stochastic import Stochastic
from rheobase.recipes.thresholds import Thresholds
from rheobase.recipes.ttfs import CIFAR10, CIFAR10_REDUCED, FASHION_MNIST, GESTURE, MNIST, PERCEPTRON, TimeToFirstSpike
from rheobase.training import Training

__all__ = [
    "RECIPES",
    "Entry",
    "FashionMnist",
    "Mnist",
    "Recipe",
    "SingleSpikeConvolutions",
    "SingleSpikes",
    "SpokenDigits",
    "Stability",
    "Stochastic",
    "Thresholds",
    "TimeToFirstSpike",
    "find",
    "from_config",
]


@dataclass(frozen=True)
class Entry:
    """A recipe with its defaults, and its aim."""

    recipe: Recipe
    aim: str
    variant: str | None = None
    """What it is, where several recipes are of one class."""

    @property
    def what(self) -> str:
        """What it is, in a sentence."""
        return self.variant or type(self.recipe).__doc__ or ""


RECIPES: Mapping[str, Entry] = MappingProxyType(
    {
        "spoken-digits": Entry(
            SpokenDigits(), "at least 85 % test accuracy in 3 minutes on two CPU cores; nothing to download"
        ),
        "spoken-digits-full": Entry(
            SpokenDigits(
                edition="full",
                delays=(0, 5, 10),
                dropout=0.2,
                shift_channels=2,
                drop_events=0.2,
                training=Training(epochs=100, threads=1),
            ),
            "at least 90 % test accuracy, on the full set",
            "The full set of spoken digits, by a network like that of spoken-digits with delays.",
        ),
        "mnist": Entry(Mnist(), "about 98.8 % test accuracy"),
        "fashion-mnist": Entry(FashionMnist(), "about 89 % test accuracy"),
        "single-spike": Entry(SingleSpikes(), "98 % test accuracy on Yin-Yang, in a few minutes"),
        "single-spike-conv": Entry(SingleSpikeConvolutions(), "about 99.2 % test accuracy on MNIST"),
        "ttfs": Entry(
            FASHION_MNIST,
            "to reach the published 92.90 % test accuracy on Fashion-MNIST",
            "Fashion-MNIST, by two convolutions of neurons that fire once and answer with the first output spike.",
        ),
        "ttfs-mnist": Entry(
            MNIST,
            "to reach the published 99.48 % test accuracy on MNIST",
            "MNIST, by three convolutions of neurons that fire once.",
        ),
        "ttfs-mlp": Entry(
            PERCEPTRON,
            "for experiments: over 86 % test accuracy on Fashion-MNIST, an epoch in seconds",
            "Fashion-MNIST, by a 784-400-400-10 network of neurons that fire once.",
        ),
        "ttfs-cifar10-reduced": Entry(
            CIFAR10_REDUCED,
            "the direction, on a CPU: 77 % test accuracy on CIFAR-10",
            "CIFAR-10, by three convolutions of neurons that fire once.",
        ),
        "ttfs-cifar10": Entry(
            CIFAR10,
            "to reach the published 90.56 % test accuracy on CIFAR-10, on a GPU",
            "CIFAR-10, by six convolutions of neurons that fire once.",
        ),
        "ttfs-gesture": Entry(
            GESTURE,
            "to reach the published 95.83 % test accuracy on DVS128 Gesture, on a GPU",
            "DVS128 Gesture, by five convolutions of neurons that fire once.",
        ),
        "stochastic": Entry(Stochastic(), "to compare; `rheobase reproduce stochastic-parallel` does it"),
        "stability": Entry(Stability(), "to compare; `rheobase reproduce stability` does it"),
        "thresholds": Entry(Thresholds(), "to compare; `rheobase reproduce thresholds` does it"),
    }
)


def find(name: str) -> Entry:
    """The recipe called `name`.

    Raises:
        RecipeError: if there is none; the message names the existing ones.

    Example:
        >>> find("mnist").recipe.hidden
        (400, 400)
    """
    if name not in RECIPES:
        close = get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise RecipeError(f"there is no recipe {name!r}{hint} Known are {', '.join(RECIPES)}")
    return RECIPES[name]


def from_config(config: Mapping[str, Any]) -> Recipe:
    """The recipe with the settings that a run's `config.json` holds.

    Raises:
        RecipeError: if the run was not started from a recipe, or a setting is unknown or has the wrong type.
    """
    name = config.get("recipe")
    if not isinstance(name, str):
        raise RecipeError(
            "this run was not started from a recipe, so its network is not known here. In Python, build it and continue with "
            "rheobase.fit(..., run=..., resume=True); or load its weights with rheobase.training.checkpoint.load(path, "
            "network) and call rheobase.training.evaluate or rheobase.doctor"
        )
    return build(type(find(name).recipe), config.get("config"))
