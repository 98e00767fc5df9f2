"""The trained network of a run, ready for use."""

from pathlib import Path

from torch import nn

from rheobase.recipes import from_config
from rheobase.training import RunFolder, checkpoint


def load(run: str | Path) -> nn.Module:
    """The network of a run of `rheobase train`, with the weights of its best epoch, in evaluation mode.

    What its recipe chooses from the data is not chosen again. Weights chosen this way are in the file; surrogates (by
    `stabilize`) are not, and matter only for further training.

    Args:
        run: the folder of the run, which need not have ended.

    Raises:
        RunError: if there is no such run, it has no weights yet, or they are damaged.
        RecipeError: if the run was not started from a recipe, so that its network is unknown.

    Example:
        >>> import tempfile
        >>> import torch, rheobase as rb
        >>> from rheobase.recipes import SpokenDigits
        >>> recipe = SpokenDigits(hidden=(8,), steps=10, dt=0.08, training=rb.Training(epochs=1))
        >>> run = Path(tempfile.mkdtemp()) / "run"
        >>> _ = recipe.train(recipe.splits(), run=run, about={"recipe": "spoken-digits"}, display=rb.training.Display())
        >>> rb.load(run)(torch.zeros(10, 1, 140)).shape
        torch.Size([10, 1, 10])
    """
    folder = RunFolder(run)
    network = from_config(folder.config).seeded_network()
    checkpoint.load(folder.best, network)
    return network.eval()
