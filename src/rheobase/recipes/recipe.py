"""What a recipe is: one experiment, complete, in one readable file.

A recipe is a frozen dataclass. Its fields are what a user may change, with the values that reach the figure it aims at; its
methods say which data and which network. Everything else, the loop, the display, checkpoints, the report, is the same for all
and lives elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rheobase import decoding
from rheobase.data import Progress, Splits
from rheobase.training import Display, Result, Training, fit


@dataclass(frozen=True)
class Recipe:
    """The base of all recipes: a sub-class adds its settings, and says what `splits` and `network` are."""

    decode: ClassVar[Callable[[Tensor], Tensor]] = staticmethod(decoding.mean)
    """From the network's output to one value per class."""

    loss: ClassVar[Callable[[Tensor, Tensor], Tensor] | None] = None
    """Of the network's output and the labels, the mean over the batch; None is the cross-entropy of the decoded output."""

    training: Training = field(default_factory=Training)

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The data, split.

        Args:
            data_dir: the folder with data sets; None is `RHEOBASE_DATA`, or the user's cache.
            download: fetch what is missing.
            progress: told how a download goes: the file, the bytes so far, the bytes in all.

        Raises:
            DataError: if data is missing or damaged.
        """
        raise NotImplementedError

    def network(self) -> nn.Module:
        """A new network, its weights drawn from PyTorch's generator."""
        raise NotImplementedError

    def check_hidden(self, hidden: tuple[int, ...]) -> None:
        """Refuse a layer without a neuron.

        Raises:
            ValueError: saying what was got.
        """
        if any(neurons < 1 for neurons in hidden):
            raise ValueError(f"hidden must be at least 1 neuron in each layer, got {hidden}")

    def seeded_network(self) -> nn.Module:
        """The network that this recipe's seed gives; PyTorch's own generator is left as it was."""
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
        return fit(
            self.seeded_network(),
            splits.train,
            splits.validation,
            splits.test,
            self.training,
            loss=self.loss,
            decode=self.decode,
            also_test=splits.also_test,
            run=run,
            resume=resume,
            about={"config": asdict(self), **(about or {})},
            display=display,
        )
