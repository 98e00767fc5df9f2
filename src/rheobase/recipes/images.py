"""MNIST and Fashion-MNIST: images, shown for a few steps or encoded as one early or late spike per pixel.

Two recipes that differ only in the images. With direct input the first layer of neurons turns a constant current into spikes;
with latency coding the network sees only spikes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import nn

from rheobase.data import ImageDataset, Images, Progress, ShiftPixels, Splits, fashion_mnist, mnist, split
from rheobase.encoding import Encoding
from rheobase.layers import Dropout, LeakyReadout, Sequential
from rheobase.neurons import LIF
from rheobase.recipes.recipe import Recipe
from rheobase.surrogate import FastSigmoid
from rheobase.training import Training


@dataclass(frozen=True)
class Pictures(Recipe):
    """The common part of the two recipes: the settings, and a feed-forward network of LIF neurons."""

    load: ClassVar[Callable[..., tuple[Images, Images]]]

    encoding: Encoding = "direct"
    """direct: the image as a current at every step; latency: one spike per pixel, the brighter the earlier; latency_all: also
    from black pixels, at the last step."""
    steps: int = 10
    """Time steps; latency coding needs more of them, about 25."""
    validation: float = 0.1
    """Share of the official training set held out for validation."""
    hidden: tuple[int, ...] = (400, 400)
    """Neurons of each hidden layer."""
    decay: float = 0.9
    """Initial decay: what a membrane potential keeps per step."""
    dropout: float = 0.2
    """Dropout: share of hidden neurons silenced in a training sample."""
    shift: int = 1
    """Augmentation: largest shift of an image, in pixels."""
    training: Training = field(
        default_factory=lambda: Training(epochs=10, batch_size=128, learning_rate=2e-3, threads=1)
    )

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The official split, with a part of the training set for validation."""
        train, test = (
            ImageDataset(images, steps=self.steps, encoding=self.encoding)
            for images in type(self).load(data_dir, download=download, progress=progress)
        )
        train, validation = split(train, self.validation, seed=0)
        return Splits(train.augmented(ShiftPixels(self.shift)), validation, test)

    def network(self) -> Sequential:
        """Linear layers, batch normalization and LIF neurons, and a leaky readout."""
        layers: list[nn.Module] = []
        inputs = 28 * 28
        for neurons in self.hidden:
            layers += [
                nn.Linear(inputs, neurons, bias=False),
                nn.BatchNorm1d(neurons),  # over batch and time; without it, a quarter of the neurons would be dead
                LIF(neurons, decay=self.decay, surrogate=FastSigmoid(sharpness=2.0), learn=("decay", "threshold")),
                Dropout(self.dropout),
            ]
            inputs = neurons
        return Sequential(*layers, nn.Linear(inputs, 10), LeakyReadout(10, decay=self.decay, learn=("decay",)))


@dataclass(frozen=True)
class Mnist(Pictures):
    """Handwritten digits, 60,000 for training and 10,000 for the test, by a 784-400-400-10 network."""

    load = staticmethod(mnist)


@dataclass(frozen=True)
class FashionMnist(Pictures):
    """Grey images of clothes, 60,000 for training and 10,000 for the test, by a 784-400-400-10 network."""

    load = staticmethod(fashion_mnist)
