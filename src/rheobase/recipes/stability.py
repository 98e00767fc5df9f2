"""Stable training: a recurrent network whose surrogate gradient and initialization are settings, some chosen by theory.

"Stabilizing Spiking Neuron Training" (arXiv 2202.00282) asks whether shape, dampening and sharpness of a surrogate need a
search. Here they can be searched, or left to the four conditions or to a calibration on one batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from rheobase.data import Progress, Splits
from rheobase.initial_rates import fit_initial_rates
from rheobase.layers import LeakyReadout, Sequential
from rheobase.neurons import RecurrentLIF
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.tasks import TASKS, TaskName, load_task
from rheobase.regularizers import Sparsity
from rheobase.stability import conditions, fluctuation_driven, stabilize
from rheobase.surrogate import (
    Arctan,
    Exponential,
    FastSigmoid,
    Gaussian,
    QPseudoSpike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Triangular,
)
from rheobase.training import Regularizer, Training

Shape = Literal[
    "rectangular", "triangular", "exponential", "gaussian", "sigmoid", "fast sigmoid", "q-pseudo-spike", "arctan"
]
SHAPES: Mapping[Shape, type[Surrogate]] = MappingProxyType(
    {
        "rectangular": Rectangular,
        "triangular": Triangular,
        "exponential": Exponential,
        "gaussian": Gaussian,
        "sigmoid": Sigmoid,
        "fast sigmoid": FastSigmoid,
        "q-pseudo-spike": QPseudoSpike,
        "arctan": Arctan,
    }
)

Initialization = Literal[
    "pytorch",
    "glorot",
    "conditions I-III",
    "conditions I, II, IV",
    "fluctuations",
    "default",
    "stabilize",
    "stabilize even",
]


@dataclass(frozen=True)
class Stability(Recipe):
    """Recurrent layers of LIF neurons, and a leaky readout; surrogate and initialization are compared."""

    task: TaskName = "spoken-digits"
    """The task to learn."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    hidden: tuple[int, ...] = (128,)
    """Neurons of each recurrent layer."""
    decay: float = 0.9
    """What a membrane potential keeps per step."""
    threshold: float = 1.0
    """Threshold of the neurons; the surrogate's width is not relative to it."""
    shape: Shape = "fast sigmoid"
    """Of the surrogate gradient."""
    dampening: float = 1.0
    """Of the surrogate gradient; with "stabilize" only the start of its search, with conditions without effect."""
    sharpness: float = 1.0
    """Of the surrogate gradient."""
    tail: float = 1.56
    """Of the q-PseudoSpike: q."""
    initialization: Initialization = "stabilize"
    """pytorch: as PyTorch draws linear layers; glorot: Glorot's uniform weights; conditions: these, changed by conditions I and
    II, with the dampening of III or of IV; fluctuations: fluctuation-driven; default: what a new Sequential does; stabilize:
    calibrated on a batch, with recurrence balanced or even."""
    initial_rate: float | None = None
    """Shift biases before training so that every layer fires at this rate, spikes per neuron and step; None leaves them
    unchanged."""
    sparsity: float = 0.0
    """Pull rates to 0.01 by a penalty that comes in between a fifth and three fifths of training: its weight at each step, in
    a sum over steps; 0 is none."""
    training: Training = field(
        default_factory=lambda: Training(epochs=20, batch_size=64, learning_rate=2e-3, weight_decay=0.0, threads=1)
    )

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)
        if self.initial_rate is not None and not 0 < self.initial_rate < 1:
            raise ValueError(f"initial_rate must be in (0, 1), or None, got {self.initial_rate}")
        if not 0 <= self.sparsity < math.inf:
            raise ValueError(f"sparsity must be at least 0 and finite, got {self.sparsity}")
        self.surrogate()

    def surrogate(self) -> Surrogate:
        """The surrogate that the settings describe."""
        surrogate = SHAPES[self.shape](self.dampening, self.sharpness)
        return replace(surrogate, tail=self.tail) if isinstance(surrogate, QPseudoSpike) else surrogate

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The task's official split, with a part of the training set for validation."""
        return load_task(self.task, samples=self.samples, data_dir=data_dir, download=download, progress=progress)

    def network(self) -> Sequential:
        """Linear layers, recurrent neurons without self-connections, and a leaky readout."""
        task = TASKS[self.task]
        layers: list[nn.Module] = []
        inputs = task.channels
        for neurons in self.hidden:
            surrogate = None if self.initialization == "default" else self.surrogate()
            layer = RecurrentLIF(
                neurons, decay=self.decay, threshold=self.threshold, self_connections=False, surrogate=surrogate
            )
            layers += [nn.Linear(inputs, neurons), layer]
            inputs = neurons
        layers += [nn.Linear(inputs, task.classes), LeakyReadout(task.classes, decay=0.95)]
        return Sequential(*layers) if self.initialization == "default" else Sequential(*layers, input_rate=None)

    def prepare(self, network: nn.Module, splits: Splits) -> None:
        """Initialize the network where that depends on data or replaces drawn weights."""
        assert isinstance(network, Sequential)
        every = max(len(splits.train) // 32, 1)
        batch, _ = splits.train.batch(np.arange(0, len(splits.train), every)[:32])
        if self.initialization.startswith("stabilize"):
            stabilize(network, batch, recurrent="even" if self.initialization == "stabilize even" else "balanced")
        elif self.initialization not in ("pytorch", "default"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.training.seed)
                _draw(network, batch, self.initialization)
        if self.initial_rate is not None:
            fit_initial_rates(network, batch, self.initial_rate)

    def regularizers(self) -> Sequence[Regularizer]:
        """The penalty on firing rates, if the network should become sparse."""
        # Sparsity is a mean over steps.
        return (Sparsity(weight=self.sparsity * TASKS[self.task].steps),) if self.sparsity else ()


def _draw(network: Sequential, batch: Tensor, how: Initialization) -> None:
    """Draw the weights of a network again."""
    x = batch
    for k in range(0, len(network) - 2, 2):
        linear, neurons = network[k], network[k + 1]
        assert isinstance(linear, nn.Linear) and isinstance(neurons, RecurrentLIF)  # noqa: PT018
        if how == "fluctuations":
            fluctuation_driven(linear, neurons, rate=max(x.mean().item(), 1e-3))
        else:
            for weight in (linear.weight, neurons.recurrent_weight):
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(linear.bias)
        if how in ("conditions I-III", "conditions I, II, IV"):
            _meet_conditions(linear, neurons, x, variance=how.endswith("IV"))
        with torch.no_grad():
            x = network[k : k + 2](x)
    if how != "fluctuations":
        readout = network[-2]
        assert isinstance(readout, nn.Linear)
        nn.init.xavier_uniform_(readout.weight)
        nn.init.zeros_(readout.bias)


def _meet_conditions(linear: nn.Linear, neurons: RecurrentLIF, x: Tensor, variance: bool) -> None:
    """Conditions I and II by the mean and variance of recurrent weights; and IV by the dampening, or else III.

    Not both, with the sharpness for IV: III makes the dampening so small that no such sharpness exists, except where the memory
    is long or the recurrence strong.
    """
    count, decay, threshold = neurons.features, neurons.decay.mean().item(), neurons.threshold.mean().item()
    mean = conditions.recurrent_mean(count, decay, threshold)
    with torch.no_grad():
        spread = conditions.recurrent_variance(
            count,
            linear.in_features,
            input_mean=x.mean().item(),
            input_variance=x.var().item(),
            weight_variance=linear.weight.var().item(),
            recurrent_mean=mean,
        )
        drawn = neurons.recurrent_weight - neurons.recurrent_weight.mean()
        neurons.recurrent_weight.copy_(drawn * math.sqrt(spread / drawn.var().item()) + mean)
        deviation = (2 * linear(x).var().item() / (1 - decay**2)) ** 0.5
    if variance:
        wanted = conditions.squared_slope_of_variance(spread + mean**2, count, decay)
        neurons.surrogate = conditions.dampening_for(
            wanted, neurons.surrogate, lambda shape: conditions.squared_slope_if_normal(shape, 0.0, deviation)
        )
    else:
        dampening = conditions.dampening_of_extremes(neurons.recurrent_weight.detach(), decay).mean().item()
        neurons.surrogate = replace(neurons.surrogate, dampening=dampening)
