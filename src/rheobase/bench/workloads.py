"""What is trained in the benchmark, said once and in no library's words.

A comparison is worth as much as the sameness of what is compared. So a network is here a tuple of *stages*, plain data with its
weights in it, and each library has a translation of the five kinds of stage into its own layers. All of them then see the same
input, the same weights and the same loss, and their outputs and gradients can be compared.

The neuron is leaky integrate-and-fire, the one that every library has: decay 0.9, threshold 1, the threshold is subtracted
after a spike, and the gradient of a spike is `1 / (1 + |v - 1|)^2`, which each of them offers or accepts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

DECAY = 0.9
THRESHOLD = 1.0


@dataclass(frozen=True)
class Linear:
    """A linear layer without a bias: `weight` is `(out, in)`."""

    weight: Tensor


@dataclass(frozen=True)
class Convolution:
    """A 3 x 3 convolution that keeps the size of the picture, without a bias: `weight` is `(out, in, 3, 3)`."""

    weight: Tensor


@dataclass(frozen=True)
class Pooling:
    """The mean of 2 x 2 pixels."""


@dataclass(frozen=True)
class Flatten:
    """A map becomes a row of features."""


@dataclass(frozen=True)
class Neurons:
    """Leaky integrate-and-fire neurons; `recurrent` `(N, N)` adds `recurrent @ s[t-1]` to their input."""

    recurrent: Tensor | None = None


@dataclass(frozen=True)
class Readout:
    """Leaky integrators with the neurons' decay, which never fire."""


Stage = Linear | Convolution | Pooling | Flatten | Neurons | Readout


@dataclass(frozen=True)
class Task:
    """A network, its input, and what a training step computes: the loss, and the gradient of all weights.

    Args:
        x: the input, `(T, B, *features)`.
        stages: the network.
        target: labels, `(B,)`, for the cross entropy of the output's mean over time; or, for a network that ends in spikes,
            a weight for each of them, `(T, B, N)`: the loss is then the weighted sum.
    """

    x: Float[Tensor, "T B *features"]
    stages: tuple[Stage, ...]
    target: Shaped[Tensor, "..."]

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return len(self.x)

    @property
    def recurrent(self) -> bool:
        """Whether any neurons are connected among themselves."""
        return any(isinstance(stage, Neurons) and stage.recurrent is not None for stage in self.stages)

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """All weights, in the order of the stages; a neuron layer alone has none, its gradient is that of `x`."""
        return tuple(
            weight
            for stage in self.stages
            for weight in (getattr(stage, "weight", None), getattr(stage, "recurrent", None))
            if weight is not None
        )

    @property
    def features(self) -> tuple[tuple[int, ...], ...]:
        """The features that come out of every stage."""
        shape: tuple[int, ...] = tuple(self.x.shape[2:])
        shapes: list[tuple[int, ...]] = []
        for stage in self.stages:
            match stage:
                case Linear(weight):
                    shape = (len(weight),)
                case Convolution(weight):
                    shape = (len(weight), *shape[1:])
                case Pooling():
                    shape = (shape[0], *(side // 2 for side in shape[1:]))
                case Flatten():
                    shape = (math.prod(shape),)
                case _:
                    pass
            shapes.append(shape)
        return tuple(shapes)

    @property
    def layer_alone(self) -> bool:
        """Whether this is a layer of neurons and nothing else."""
        return len(self.stages) == 1

    def with_currents_times(self, gain: float) -> "Task":
        """The same network with the neurons' inputs scaled, for a library that scales them back."""
        if self.layer_alone:
            return replace(self, x=self.x * gain)
        stages = list(self.stages)
        for position, stage in enumerate(stages):
            if isinstance(stage, Neurons):
                before = stages[position - 1]
                assert isinstance(before, Linear | Convolution)
                stages[position - 1] = replace(before, weight=before.weight * gain)
                if stage.recurrent is not None:
                    stages[position] = Neurons(stage.recurrent * gain)
        return replace(self, stages=tuple(stages))


@dataclass(frozen=True)
class Workload:
    """A task by its name: `make(toy)` draws input and weights, the same ones in every process."""

    title: str
    make: Callable[[bool], Task]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _spikes(generator: torch.Generator, density: float, *shape: int) -> Tensor:
    return (torch.rand(*shape, generator=generator) < density).float()


def _weight(generator: torch.Generator, gain: float, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * gain / math.prod(shape[1:]) ** 0.5


def _layer(steps: int, batch: int, neurons: int) -> Callable[[bool], Task]:
    """Neurons alone: T steps of B times N of them."""

    def make(toy: bool) -> Task:
        shape = (30, 4, 8) if toy else (steps, batch, neurons)
        generator = _generator()
        x = torch.randn(shape, generator=generator) * 0.5
        return Task(x, (Neurons(),), torch.randn(shape, generator=generator))

    return make


def _linear_and_neurons(toy: bool) -> Task:
    steps, batch, features = (20, 3, 10) if toy else (500, 16, 512)
    generator = _generator()
    x = _spikes(generator, 0.1, steps, batch, features)
    weight = _weight(generator, 2.0, features, features)
    return Task(x, (Linear(weight), Neurons()), torch.randn(steps, batch, features, generator=generator))


def _classifier(recurrent: bool) -> Callable[[bool], Task]:
    """700 input channels with 3 % of spikes, two hidden layers of 128 neurons, 20 classes: the size of a spoken digit."""

    def make(toy: bool) -> Task:
        steps, batch, channels, hidden, classes = (20, 4, 40, 16, 4) if toy else (100, 128, 700, 128, 20)
        generator = _generator()
        x = _spikes(generator, 0.1 if toy else 0.03, steps, batch, channels)
        first, second = (Neurons(_weight(generator, 0.23, hidden, hidden) if recurrent else None) for _ in range(2))
        stages = (
            *(Linear(_weight(generator, 2.3, hidden, channels)), first),
            *(Linear(_weight(generator, 3.5, hidden, hidden)), second),
            *(Linear(_weight(generator, 0.6, classes, hidden)), Readout()),
        )
        return Task(x, stages, torch.randint(classes, (batch,), generator=generator))

    return make


def _convolutions(toy: bool) -> Task:
    steps, batch, size, channels = (8, 3, 8, (3, 4)) if toy else (8, 64, 28, (32, 64))
    generator = _generator()
    x = _spikes(generator, 0.3, steps, batch, 1, size, size)
    stages = (
        *(Convolution(_weight(generator, 1.2, channels[0], 1, 3, 3)), Neurons(), Pooling()),
        *(Convolution(_weight(generator, 1.7, channels[1], channels[0], 3, 3)), Neurons(), Pooling()),
        *(Flatten(), Linear(_weight(generator, 0.6, 10, channels[1] * (size // 4) ** 2))),
    )
    return Task(x, stages, torch.randint(10, (batch,), generator=generator))


WORKLOADS = {
    "W1": Workload("linear 512-512 and neurons, T 500, B 16, 10 % of the input are spikes", _linear_and_neurons),
    "W2": Workload("700-128-128-20, leaky readout, T 100, B 128, 3 % of the input are spikes", _classifier(False)),
    "W3": Workload("the same with recurrent hidden layers", _classifier(True)),
    "W4": Workload("neurons alone, T 1000, B 32, N 512", _layer(1000, 32, 512)),
    "W5": Workload("neurons alone, long: T 10,000, B 4, N 128", _layer(10_000, 4, 128)),
    "W6": Workload("convolutions 32-64 on 28 x 28 pixels, pooling, 10 classes, T 8, B 64", _convolutions),
    # The cost against T: as many neurons times steps in each, so that the work is the same.
    "T100": Workload("neurons alone, T 100, B 4, N 40,000", _layer(100, 4, 40_000)),
    "T1000": Workload("neurons alone, T 1000, B 4, N 4000", _layer(1000, 4, 4000)),
    "T10000": Workload("neurons alone, T 10,000, B 4, N 400", _layer(10_000, 4, 400)),
    "T100000": Workload("neurons alone, T 100,000, B 4, N 40", _layer(100_000, 4, 40)),
}
