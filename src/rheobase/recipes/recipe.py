"""What a recipe is: one experiment, complete, in one readable file.

A recipe is a frozen dataclass. Its fields are what a user may change, with defaults that reach its aim; its methods define the
data and the network. Everything else, the loop, the display, checkpoints, the report, is the same for all and lives elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rheobase import decoding
from rheobase.data import Dataset, Progress, Splits
from rheobase.training import Display, Regularizer, Result, Training, fit


@dataclass(frozen=True)
class Recipe:
    """The base of all recipes: a subclass adds its settings, and defines `splits` and `network`."""

    decode: ClassVar[Callable[[Tensor], Tensor]] = staticmethod(decoding.mean)
    """From the network's output to one value per class."""

    loss: ClassVar[Callable[[Tensor, Tensor], Tensor] | None] = None
    """From the network's output and the labels to the mean over the batch; None is the cross-entropy of the decoded output."""

    training: Training = field(default_factory=Training)

    def regularizers(self) -> Sequence[Regularizer]:
        """The penalties on the activity of neurons with which this recipe trains."""
        return ()

    def measure(self, network: nn.Module, dataset: Dataset) -> Mapping[str, float]:
        """Further measures of the trained network on the test set, by name; called in the precision of training."""
        del network, dataset
        return {}

    def prepare(self, network: nn.Module, splits: Splits) -> None:
        """Adapt the new network to the data before training; it must do the same each time for the same data."""

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The data, split.

        Args:
            data_dir: the folder of data sets; None is `RHEOBASE_DATA`, or the user's cache.
            download: whether to download missing files.
            progress: called with the progress of a download: the file, the bytes so far, the bytes in all.

        Raises:
            DataError: if data is missing or damaged.
        """
        raise NotImplementedError

    def network(self) -> nn.Module:
        """A new network, with weights drawn from PyTorch's generator."""
        raise NotImplementedError

    def check_hidden(self, hidden: tuple[int, ...]) -> None:
        """Refuse a layer without neurons.

        Raises:
            ValueError: with the value passed.
        """
        if any(neurons < 1 for neurons in hidden):
            raise ValueError(f"hidden must be at least 1 neuron in each layer, got {hidden}")

    def seeded_network(self) -> nn.Module:
        """The network that this recipe's seed gives; PyTorch's own generator is not affected."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            return self.network()

    def train(
        self,
        splits: Splits,
        *,
        run: Path | None = None,
        resume: bool = False,
        about: Mapping[str, Any] | None = None,
        display: Display | None = None,
    ) -> Result:
        """Train this recipe's network; the arguments are those of `rheobase.fit`."""
        network = self.seeded_network()
        self.prepare(network, splits)
        return fit(
            network,
            splits.train,
            splits.validation,
            splits.test,
            self.training,
            loss=self.loss,
            decode=self.decode,
            regularizers=self.regularizers(),
            measure=self.measure,
            also_test=splits.also_test,
            run=run,
            resume=resume,
            about={"config": asdict(self), **(about or {})},
            display=display,
        )
