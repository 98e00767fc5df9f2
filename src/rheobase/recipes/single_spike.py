"""One spike per neuron: the networks of the block model (arXiv 2205.15286), and the neurons it is compared with.

Linear layers, or two convolutions and a linear layer, between neurons that fire at most once; a leaky readout whose sum over
time is the answer. The comparison is with the same neurons trained as by a loop over time, where a gradient ends at the spike,
and with neurons that fire any number of times.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from rheobase import decoding
from rheobase.data import Progress, Splits
from rheobase.layers import LeakyReadout, Sequential, SpikeMaxPool2d
from rheobase.neurons import LIF, Neuron, SingleSpike
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.tasks import TASKS, TaskName, load_task
from rheobase.surrogate import FastSigmoid
from rheobase.training import Training

Kind = Literal["single spike", "single spike, product", "single spike, detached", "multi-spike"]


def _training(epochs: int, batch_size: int) -> Training:
    # The gradient grows with T squared, to which Adam is insensitive; clipping is not. The authors' decays themselves take
    # steps of 0.001; here the steps are taken before the sigmoid, and with 0.012 a time constant of ten changes like theirs.
    return Training(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        decay_learning_rate=0.012,
        weight_decay=0.0,
        clip_gradient=math.inf,
        threads=1,
    )


@dataclass(frozen=True)
class SingleSpikes(Recipe):
    """Linear layers and neurons that fire at most once; or, for comparison, any number of times."""

    decode: ClassVar[Callable[[Tensor], Tensor]] = staticmethod(decoding.sum)

    task: TaskName = "yin-yang"
    """The task to learn."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    augment: bool = True
    """Augment training images as the authors do."""
    neurons: Kind = "single spike"
    """Neurons that fire once, with the gradient of the block model, of a loop, or of a loop whose mask is a constant; or
    neurons with a soft reset."""
    hidden: tuple[int, ...] = (120,)
    """Neurons of each hidden layer."""
    learn_decay: bool = True
    """Whether each neuron learns its decay."""
    tau: float = 10.0
    """Initial time constant of hidden neurons, in steps."""
    readout_tau: float = 20.0
    """Initial time constant of the readout, in steps."""
    input_gain: float | None = None
    """Factor of the first layer's initial weights. None is 1; but 4 for Yin-Yang, whose four inputs of one spike each would
    leave nearly all neurons silent."""
    training: Training = field(default_factory=lambda: _training(100, 128))

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)
        for name in ("tau", "readout_tau", "input_gain"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {value}")

    @property
    def first_gain(self) -> float:
        """The factor of the first layer's weights: `input_gain`, or that of the task."""
        return self.input_gain or (4.0 if self.task == "yin-yang" else 1.0)

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The task's official split, with part of the training set held out for validation."""
        return load_task(
            self.task,
            samples=self.samples,
            augment=self.augment,
            data_dir=data_dir,
            download=download,
            progress=progress,
        )

    def network(self) -> Sequential:
        """Linear layers, neurons, and a leaky readout."""
        task = TASKS[self.task]
        layers: list[nn.Module] = []
        inputs, gain = task.channels, self.first_gain
        for count in self.hidden:
            decay = math.exp(-1 / self.tau)
            layers += [_linear(inputs, count, gain), _neurons(self.neurons, count, decay, self.learn_decay)]
            inputs, gain = count, 1.0
        readout = _readout(task.classes, math.exp(-1 / self.readout_tau), self.learn_decay)
        return Sequential(*layers, _linear(inputs, task.classes), readout)


@dataclass(frozen=True)
class SingleSpikeConvolutions(Recipe):
    """Two convolutions, a linear layer, and neurons that fire at most once, on images of 28 x 28 in eight steps."""

    decode: ClassVar[Callable[[Tensor], Tensor]] = staticmethod(decoding.sum)

    task: Literal["mnist", "fashion-mnist"] = "mnist"
    """The task to learn."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    augment: bool = True
    """Augment training images as the authors do."""
    neurons: Kind = "single spike"
    """As for linear layers."""
    steps: int = 8
    """The number of time steps T."""
    channels: tuple[int, int] = (32, 64)
    """Maps of the two convolutions."""
    hidden: int = 1000
    """Neurons of the linear layer."""
    decay: float = 0.99
    """Initial decay: what neurons keep per step. The authors start at 1, which a sigmoid never reaches, and near which it
    hardly moves."""
    training: Training = field(default_factory=lambda: _training(20, 32))

    def __post_init__(self) -> None:
        self.check_hidden((*self.channels, self.hidden))
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The official split, with part of the training set held out for validation."""
        return load_task(
            self.task,
            samples=self.samples,
            steps=self.steps,
            flatten=False,
            augment=self.augment,
            data_dir=data_dir,
            download=download,
            progress=progress,
        )

    def network(self) -> Sequential:
        """Convolutions of 5 x 5 and pooling of 2 x 2, twice; a linear layer; a leaky readout. One decay for each map."""
        layers: list[nn.Module] = []
        inputs = 1
        for count in self.channels:
            convolution = nn.Conv2d(inputs, count, 5, padding=2)
            _uniform(convolution, 25 * inputs)
            layers += [convolution, _neurons(self.neurons, count, self.decay, True), SpikeMaxPool2d(2)]
            inputs = count
        layers += [
            nn.Flatten(),
            _linear(49 * inputs, self.hidden),
            _neurons(self.neurons, self.hidden, self.decay, True),
        ]
        return Sequential(*layers, _linear(self.hidden, 10), _readout(10, self.decay, True))


def _linear(inputs: int, outputs: int, gain: float = 1.0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    _uniform(layer, inputs, gain)
    return layer


def _uniform(layer: nn.Linear | nn.Conv2d, fan_in: int, gain: float = 1.0) -> None:
    """Weights within `gain / sqrt(fan_in)`, biases 0."""
    nn.init.uniform_(layer.weight, -gain * fan_in**-0.5, gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _neurons(kind: Kind, count: int, decay: float, learn_decay: bool) -> Neuron:
    learn = ("decay",) if learn_decay else ()
    surrogate = FastSigmoid(sharpness=5.0)  # 1 / (10 |u| + 1)^2
    if kind == "multi-spike":
        return LIF(count, decay=decay, surrogate=surrogate, reset_gradient="attached", learn=learn)
    credit = {"single spike": "ramp", "single spike, product": "product", "single spike, detached": "detached"}[kind]
    return SingleSpike(count, decay=decay, surrogate=surrogate, credit=credit, learn=learn)  # pyright: ignore[reportArgumentType]


def _readout(classes: int, decay: float, learn_decay: bool) -> LeakyReadout:
    return LeakyReadout(classes, decay=decay, learn=("decay",) if learn_decay else ())
