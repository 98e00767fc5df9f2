"""What the doctor examines in a recipe or a run: which network, which batch, which loss.

A recipe is examined as it would begin to train: its new network, prepared by its data, on the first batch of the first epoch. A
run is examined with its best weights, on the same batch. Both see the training data as in training, augmented; the test set is
not read.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from rheobase import randomness, recipes
from rheobase.data import Splits
from rheobase.diagnosis import Diagnosis, doctor
from rheobase.errors import RecipeError
from rheobase.recipes import Recipe
from rheobase.training import RunFolder, checkpoint
from rheobase.training.engine import Engine
from rheobase.training.predictions import loss_for


def checkup(target: str, load: Callable[[Recipe], Splits]) -> Diagnosis:
    """Diagnose a recipe or a run.

    Args:
        target: the name of a recipe, or the folder of a run.
        load: loads a recipe's data.

    Returns:
        The diagnosis.

    Raises:
        RecipeError: if there is neither such a folder nor such a recipe.
        RunError: if the run has no weights yet, or they are damaged.
        DataError: if data is missing.
    """
    folder = RunFolder(Path(target)) if Path(target).is_dir() else None
    recipe = recipes.from_config(folder.config) if folder else _recipe(target)
    splits = load(recipe)
    network = recipe.seeded_network()
    recipe.prepare(network, splits)  # a run's too: surrogates chosen from the data are not among its weights
    if folder is None:
        what = f"{target}, new"
    else:
        position = checkpoint.load(folder.best, network)
        what = f"{target}, weights of epoch {position.best_epoch}"
    engine = Engine.start(recipe.training)
    return _diagnose(what, network.to(engine.device), recipe, splits, engine)


def _recipe(name: str) -> Recipe:
    try:
        return recipes.find(name).recipe
    except RecipeError as error:
        raise RecipeError(f"{name}: there is no run folder of this name, and {error}") from error


def _diagnose(what: str, network: nn.Module, recipe: Recipe, splits: Splits, engine: Engine) -> Diagnosis:
    settings = recipe.training
    order = randomness.order(settings.seed, 1, len(splits.train))[: settings.batch_size]
    batch, labels = engine.to_device(*splits.train.batch(order, randomness.augmentation(settings.seed, 1)))
    with engine.threads(settings.threads):
        diagnosis = doctor(network, batch, labels, recipe.loss or loss_for(splits.train, recipe.decode))
    return replace(diagnosis, title=f"{what}: {diagnosis.title}")
