"""Time to first spike, trained from scratch: the framework of Che et al. (arXiv 2410.23619), each of its parts a setting.

Integrate-and-fire neurons that fire once, in multilayer perceptrons and convolutional networks with average pooling; weights
drawn for currents of variance 1 and standardized to keep it; an answer read from the first spike of the output units. The
paper's text and program were not available when this was written: what was open (the surrogate, its width, the affine map, the
decoder's base and scale, the networks, all of training) was chosen here, from short experiments.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rheobase import decoding, first_spike
from rheobase.data import (
    Dataset,
    EventDataset,
    Flip,
    ImageAugmentation,
    ImageDataset,
    Images,
    Progress,
    ShiftPixels,
    Splits,
    cifar10,
    dvs128_gesture,
    fashion_mnist,
    mnist,
    split,
)
from rheobase.health import Recorder, listening
from rheobase.layers import Dropout, Hold, LeakyReadout, Sequential, SpikeMaxPool2d, standardize
from rheobase.neurons import SingleSpike
from rheobase.ops.single_spike import Credit
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.tasks import some_of
from rheobase.stability import calibrate_single_spike, initialize_single_spike
from rheobase.surrogate import Arctan, FastSigmoid, Sigmoid, Surrogate, Triangular
from rheobase.training import GrowingSteps, Training

TaskName = Literal["mnist", "fashion-mnist", "cifar10", "dvs128-gesture"]
Decoder = Literal["exponential", "linear", "learned", "count", "membrane"]

MOST_SPIKES = "most spikes of a neuron"
"""The name of the measure that shows whether neurons fire once."""

_SHAPES: Mapping[str, tuple[int, int]] = {
    "mnist": (1, 28),
    "fashion-mnist": (1, 28),
    "cifar10": (3, 32),
    "dvs128-gesture": (2, 128),
}
"""Channels, height and width of the input."""


@dataclass(frozen=True)
class TimeToFirstSpike(Recipe):
    """Networks of neurons that fire once and answer with the first output spike, trained from scratch."""

    task: TaskName = "fashion-mnist"
    """The task to learn."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    channels: tuple[int, ...] = (16, 32)
    """Maps of the convolutions of each block, which ends with 2 x 2 pooling; empty is a multilayer perceptron."""
    convolutions: int = 1
    """3 x 3 convolutions in a block."""
    hidden: tuple[int, ...] = (256,)
    """Neurons of each linear layer before the last."""
    steps: int = 4
    """The number of time steps T."""
    grow: tuple[int, ...] = ()
    """Incremental training: the numbers of steps before the last, in equal parts of training; for direct input."""
    encoding: Literal["direct", "latency"] = "direct"
    """direct: the image as a current at every step; latency: one spike per pixel, the brighter the earlier."""
    shift: int = 0
    """Augmentation: largest shift of an image, in pixels."""
    flip: bool = False
    """Augmentation: mirror half of the images."""
    dropout: float = 0.0
    """Dropout: share of neurons of the linear layers before the last silenced in a training sample."""
    decay: float = 1.0
    """What a membrane potential keeps per step; 1 is no leak."""
    surrogate: Literal["arctan", "fast sigmoid", "sigmoid", "triangular"] = "arctan"
    """The shape of the gradient of a spike; its peak is 1."""
    width: float = 1.0
    """The area of that shape, and its width relative to that of area 1."""
    credit: Credit = "product"
    """The gradient of the rule that makes a single spike out of threshold crossings."""
    fire_by_end: bool = False
    """Hidden neurons that are silent until the last step fire there."""
    initialization: Literal["steps", "measured", "pytorch"] = "steps"
    """The variance of weights: T over the inputs, corrected for pooling and analog input; that, scaled until the currents of
    128 samples have variance 1 in every layer; or PyTorch's, 1/3 over the inputs."""
    identity: float = 0.0
    """The share of that variance in one weight of each unit, from its own position in the layer below."""
    normalization: Literal["output", "layer", "none"] = "output"
    """Weights keep their mean and variance, per output unit or per layer."""
    affine: Literal["current", "membrane", "none"] = "current"
    """What standardized units learn: a gain and a current at every step; a gain and a threshold; nothing."""
    pooling: Literal["average", "maximum"] = "average"
    """The maximum turns one spike into several."""
    decoder: Decoder = "exponential"
    """An output spike counts by its time, or as one ("count"); or the mean membrane potential is read."""
    base: float = 1.5
    """Of the exponential decoder: the factor of a spike that comes one step earlier."""
    scale: float = first_spike.SCALE
    """Factor that turns the decoded output into a logit."""
    error: Literal["cross-entropy", "squared"] = "cross-entropy"
    """Of the logits; or of the decoded output, from 1 for the right class and 0 for others."""
    official_test: Literal[1_000, 10_000] = 1_000
    """Of CIFAR-10: 10,000 tests on the official set. 1,000 is for folders that hold only its first 1,000 images: these are
    tested additionally, and the fifth training batch is held out for the test."""
    seconds: float = 1.5
    """Of DVS128 Gesture: how much of the beginning of a gesture is used."""
    training: Training = field(
        default_factory=lambda: Training(epochs=30, batch_size=128, learning_rate=2e-2, weight_decay=0.0, threads=1)
    )

    def __post_init__(self) -> None:
        self.check_hidden((*self.channels, *self.hidden))
        for name, least in (("steps", 1), ("convolutions", 1), ("shift", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.identity < 1:
            raise ValueError(f"identity must be in [0, 1), got {self.identity}")
        if not 1 <= self.base < math.inf:
            raise ValueError(f"base must be at least 1 and finite, got {self.base}")
        if list(self.grow) != sorted({*self.grow}) or any(not 1 <= steps < self.steps for steps in self.grow):
            raise ValueError(f"grow must ascend from at least 1 to below steps, {self.steps}, got {self.grow}")
        for name in ("width", "scale", "seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        self._check_what_would_have_no_effect()
        if self.grow and (self.encoding != "direct" or self.task == "dvs128-gesture"):
            raise ValueError(f"grow needs direct input, whose steps the network makes; got {self.grow}")
        if self.affine == "membrane" and self.normalization == "none":
            raise ValueError("affine 'membrane' goes with normalization, got normalization 'none'")
        if self.error == "squared" and self.decoder in ("learned", "membrane"):
            raise ValueError(
                f"error 'squared' goes with decoders whose output is at most 1, got decoder {self.decoder!r}"
            )

    def _check_what_would_have_no_effect(self) -> None:
        gestures, dense = self.task == "dvs128-gesture", not self.channels
        for ignored, what in (
            (gestures and self.encoding == "latency", "encoding 'latency' is for pictures, and gestures are events"),
            (gestures and (self.shift or self.flip), "shift and flip are for pictures, and gestures are events"),
            (dense and self.convolutions > 1, "convolutions is for networks with channels"),
            (dense and self.pooling == "maximum", "pooling is for networks with channels"),
            (self.identity and self.initialization == "pytorch", "identity goes with the other initializations"),
        ):
            if ignored:
                raise ValueError(f"{what}; got task {self.task!r}, channels {self.channels}, {self.initialization!r}")

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The official split, with a tenth of the training set held out for validation. Direct images have one step."""
        if self.task == "dvs128-gesture":
            train, test = (
                EventDataset(part, dt=self.seconds / self.steps, steps=self.steps, clip=1, flatten=not self.channels)
                for part in dvs128_gesture(data_dir, seconds=self.seconds, progress=progress)
            )
            also_test: dict[str, Dataset] = {}
        else:
            train, test, also_test = self._pictures(data_dir, download, progress)
        train, validation = split(train, 0.1, seed=0)
        train = some_of(train, self.samples)
        if isinstance(train, ImageDataset):
            shift: Sequence[ImageAugmentation] = (ShiftPixels(self.shift),) if self.shift else ()
            train = train.augmented(*shift, *((Flip(),) if self.flip else ()))
        return Splits(train, validation, test, also_test)

    def _pictures(
        self, data_dir: Path | None, download: bool, progress: Progress | None
    ) -> tuple[ImageDataset, ImageDataset, dict[str, Dataset]]:
        def dataset(images: Images) -> ImageDataset:
            steps = 1 if self.encoding == "direct" else self.steps
            return ImageDataset(images, steps=steps, encoding=self.encoding, flatten=not self.channels)

        source = {"download": download, "progress": progress}
        if self.task != "cifar10":
            train, test = (mnist if self.task == "mnist" else fashion_mnist)(data_dir, **source)
            return dataset(train), dataset(test), {}
        train, test = (dataset(part) for part in cifar10(data_dir, test_samples=self.official_test, **source))
        if self.official_test == 10_000:
            return train, test, {}
        kept, held_out = (train.subset(np.arange(*part)) for part in ((40_000,), (40_000, 50_000)))
        return kept, held_out, {"first 1,000 official test images": test}

    def network(self) -> Sequential | GrowingSteps:
        """Convolutions and pooling, linear layers, and output units whose membrane potential is the output."""
        channels, side = _SHAPES[self.task]
        layers: list[nn.Module] = []
        if self.task == "dvs128-gesture":  # the first event of each pixel and polarity
            layers.append(SingleSpike(decay=1.0))
        for count in self.channels:
            for _ in range(self.convolutions):
                layers += self._block(nn.Conv2d(channels, count, 3, padding=1, bias=self._bias), count)
                channels = count
            layers.append(nn.AvgPool2d(2) if self.pooling == "average" else SpikeMaxPool2d(2))
            side //= 2
        inputs = channels * side**2
        if self.channels or self.task == "dvs128-gesture":
            layers.append(nn.Flatten())
        for count in self.hidden:
            layers += [*self._block(nn.Linear(inputs, count, bias=self._bias), count), Dropout(self.dropout)]
            inputs = count
        bias = (
            self._bias or self.affine == "membrane"
        )  # the output's thresholds are those of the decoder, and stay fixed
        layers += [self._synapses(nn.Linear(inputs, self._classes, bias=bias)), LeakyReadout(decay=self.decay)]
        if self.encoding == "direct" and self.task != "dvs128-gesture":
            first = next(k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d))
            layers.insert(first + 1, Hold(self.steps))
        if self.decoder == "learned":
            rule = {"scale": self.scale, "surrogate": self._surrogate, "credit": self.credit}
            layers.append(first_spike.LearnedWeights(self.steps, **rule))
        network = Sequential(*layers, input_rate=None)  # what is drawn, and how, is a setting
        return GrowingSteps(network, (*self.grow, self.steps)) if self.grow else network

    def _block(self, synapses: nn.Linear | nn.Conv2d, count: int) -> list[nn.Module]:
        membrane = self.normalization != "none" and self.affine == "membrane"
        neurons = SingleSpike(
            count if membrane else None,
            decay=self.decay,
            surrogate=self._surrogate,
            credit=self.credit,
            fire_by_end=self.fire_by_end,
            learn=("threshold",) if membrane else (),
        )
        return [self._synapses(synapses), neurons]

    def _synapses(self, layer: nn.Linear | nn.Conv2d) -> nn.Module:
        if self.normalization == "none":
            return layer
        fan_in = layer.weight[0].numel()
        return standardize(layer, 1 / (3 * fan_in), gain=self.affine != "none", over=self.normalization)

    def prepare(self, network: nn.Module, splits: Splits) -> None:
        """Draw the weights for currents of variance 1, the first layer's by its input from 128 samples."""
        if self.initialization == "pytorch":
            return
        x, _ = splits.train.batch(np.arange(min(128, len(splits.train))))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            initialize_single_spike(network, self.steps, x, identity=self.identity)
        if self.initialization == "measured":
            calibrate_single_spike(network, x)

    @property
    def _bias(self) -> bool:
        return self.normalization == "none" or self.affine == "current"

    @property
    def _classes(self) -> int:
        return 11 if self.task == "dvs128-gesture" else 10

    @property
    def _surrogate(self) -> Surrogate:
        shape = {"arctan": Arctan, "fast sigmoid": FastSigmoid, "sigmoid": Sigmoid, "triangular": Triangular}[
            self.surrogate
        ]
        return shape(sharpness=1 / self.width)

    def decode(self, output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One value per class, the largest of which is the answer; where early spikes count more, by the first and its
        potential."""
        if self.decoder in ("exponential", "linear"):
            return first_spike.scores(output)
        if self.decoder == "count":  # which is 0 or 1: ties are broken by the potential at the end
            return self._decoded(output) + 0.5 + output[-1].atan() / torch.pi
        return self._decoded(output)

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The error of the decoded output, the mean over the batch."""
        decoded = self._decoded(output)
        if self.error == "squared":
            return (decoded - functional.one_hot(labels, self._classes)).square().sum(1).mean()
        return functional.cross_entropy(decoded if self.decoder == "learned" else self.scale * decoded, labels)

    def _decoded(self, output: Tensor) -> Tensor:
        if self.decoder == "membrane":
            return decoding.mean(output)
        if self.decoder == "learned":
            return decoding.sum(output)
        steps = len(output)
        weights = {
            "exponential": first_spike.exponential(steps, self.base),
            "linear": first_spike.linear(steps),
            "count": torch.ones(steps),
        }[self.decoder]
        spikes = first_spike.spikes_of(output, surrogate=self._surrogate, credit=self.credit)
        return first_spike.weighted(spikes, weights)

    def measure(self, network: nn.Module, dataset: Dataset) -> Mapping[str, float]:
        """Steps per decision, how often no output unit fires, spikes per neuron, and the most spikes of one."""
        device = next(network.parameters()).device
        steps, undecided, most = 0.0, 0, 0.0
        with torch.no_grad(), Recorder(network) as recorder, listening(network) as spikes:
            for start in range(0, len(dataset), self.training.evaluation_batch_size):
                indices = np.arange(start, min(start + self.training.evaluation_batch_size, len(dataset)))
                output = network(dataset.batch(indices)[0].to(device)).float()
                most = max([most, *(layer.sum(0, dtype=torch.float32).max().item() for layer in spikes.values())])
                if self.decoder in ("exponential", "linear"):
                    found = first_spike.decide(output)
                    steps += found.latency(len(output)).sum().item()
                    undecided += int((found.steps == len(output)).sum())
                else:  # they wait for the last step
                    steps += len(output) * len(indices)
        layers = recorder.layers()
        neurons = sum(layer.neurons for layer in layers)
        return {
            "steps / decision": steps / len(dataset),
            "undecided, %": 100 * undecided / len(dataset),
            "spikes / neuron": sum(layer.spikes_per_sample for layer in layers) / neurons,
            MOST_SPIKES: most,
        }


FASHION_MNIST = TimeToFirstSpike(
    channels=(32, 64),
    shift=2,
    flip=True,
    training=Training(epochs=25, batch_size=128, learning_rate=2e-2, weight_decay=0.0, precision="bfloat16", threads=1),
)
"""The network compared with the published accuracy on Fashion-MNIST: two convolutions, in four steps."""

MNIST = replace(FASHION_MNIST, task="mnist", flip=False, channels=(32, 64, 128))
"""One convolution more, from which digits gain; no mirroring, since a mirrored digit is a different one, or none."""

PERCEPTRON = TimeToFirstSpike(channels=(), hidden=(400, 400), steps=8)
"""784-400-400-10 in eight steps."""

CIFAR10 = TimeToFirstSpike(
    task="cifar10",
    channels=(64, 128, 256),
    convolutions=2,
    hidden=(512,),
    steps=4,
    shift=4,
    flip=True,
    dropout=0.2,
    initialization="measured",  # eight layers by theory alone are silent behind the fourth
    training=Training(epochs=200, batch_size=128, learning_rate=1e-2, weight_decay=0.0),
)
"""A network like VGG's, for a GPU."""

CIFAR10_REDUCED = replace(
    CIFAR10,
    channels=(32, 64, 128),
    convolutions=1,
    hidden=(256,),
    initialization="steps",
    training=replace(CIFAR10.training, epochs=20, precision="bfloat16", threads=1),
)
"""Half of its convolutions, half as wide: on one core an epoch takes minutes."""

GESTURE = TimeToFirstSpike(
    task="dvs128-gesture",
    channels=(128,) * 5,
    hidden=(512,),
    steps=16,
    dropout=0.5,
    initialization="measured",
    training=Training(epochs=100, batch_size=16, learning_rate=1e-2, weight_decay=0.0),
)
"""Five blocks of one convolution and pooling each, as is usual for this data set, for a GPU."""
