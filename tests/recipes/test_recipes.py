"""The list of recipes: what it offers, and how it answers to a name."""

from dataclasses import FrozenInstanceError, asdict

import pytest

from rheobase.errors import RecipeError
from rheobase.recipes import (
    RECIPES,
    FashionMnist,
    Mnist,
    SingleSpikeConvolutions,
    SingleSpikes,
    SpokenDigits,
    Stability,
    Stochastic,
    Thresholds,
    TimeToFirstSpike,
    find,
    from_config,
)
from rheobase.training import Training


def test_what_is_offered() -> None:
    kinds = {name: type(entry.recipe) for name, entry in RECIPES.items()}
    assert kinds == {
        "spoken-digits": SpokenDigits, "spoken-digits-full": SpokenDigits, "mnist": Mnist, "fashion-mnist": FashionMnist,
        "single-spike": SingleSpikes, "single-spike-conv": SingleSpikeConvolutions, "ttfs": TimeToFirstSpike,
        "ttfs-mnist": TimeToFirstSpike, "ttfs-mlp": TimeToFirstSpike,
        "ttfs-cifar10-reduced": TimeToFirstSpike, "ttfs-cifar10": TimeToFirstSpike, "ttfs-gesture": TimeToFirstSpike,
        "stochastic": Stochastic, "stability": Stability,
        "thresholds": Thresholds,
    }  # fmt: skip
    assert find("spoken-digits-full").recipe.edition == "full"
    assert all("%" in entry.aim or "rheobase reproduce" in entry.aim for entry in RECIPES.values())


def test_nobody_changes_a_default() -> None:
    with pytest.raises(TypeError):
        RECIPES["mine"] = find("mnist")
    with pytest.raises(FrozenInstanceError):
        find("mnist").recipe.steps = 3


@pytest.mark.parametrize(
    ("name", "hint"), [("minst", "did you mean mnist"), ("MNIST!!", "Known are"), ("", "Known are")]
)
def test_an_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=f"there is no recipe '{name}'.*{hint}"):
        find(name)


def test_a_run_s_configuration_gives_its_recipe() -> None:
    recipe = SpokenDigits(hidden=(5,), training=Training(seed=4))
    assert from_config({"recipe": "spoken-digits", "config": asdict(recipe)}) == recipe
    # Of the full recipe a file names every setting, so that its defaults are those of the class.
    full = find("spoken-digits-full").recipe
    assert from_config({"recipe": "spoken-digits-full", "config": asdict(full)}) == full


@pytest.mark.parametrize("config", [{}, {"recipe": None}, {"recipe": 3}, {"recipe": ["mnist"]}])
def test_a_run_without_a_recipe(config: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="not started from a recipe"):
        from_config(config)
