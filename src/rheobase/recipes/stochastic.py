"""Neurons without a reset: the networks of SPSN (arXiv 2306.12666), and the neurons they are compared with.

Three hidden layers and a readout that integrates behind a synapse and does not fire; its mean over time is the answer. Only the
neuron differs: stochastic with one of two samplers, leaky with a reset, a rectifier without any memory, or one of the parallel
spiking neurons whose mixing over time is learned (Fang et al., NeurIPS 2023).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from rheobase.data import Dataset, EventDataset, Progress, Splits, Zoom
from rheobase.layers import NoiseAveraged, SynapticReadout
from rheobase.layers import Sequential as Network
from rheobase.neurons import PSN, SPSN, MaskedPSN, SlidingPSN, SynapticLIF
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.tasks import SEQUENCES, SequenceName, load_task
from rheobase.regularizers import TotalRate
from rheobase.surrogate import FastSigmoid
from rheobase.training import Regularizer, Training, evaluate

Kind = Literal["SPSN-SB", "SPSN-GS", "LIF", "non-spiking", "PSN", "masked PSN", "sliding PSN"]

_NOISE_SEEDS, _DRAWS = (1, 2, 3, 4), 8


@dataclass(frozen=True)
class Stochastic(Recipe):
    """Linear layers and stochastic neurons; or, for comparison, other neurons."""

    task: SequenceName = "spoken-digits"
    """The task to learn. "shd" is the data of the paper, and must be in the data folder."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    augment: bool = False
    """Zoom training recordings and shift their channels, as the authors do."""
    neurons: Kind = "SPSN-SB"
    """Stochastic with the sampler "bernoulli" (SB) or "gumbel" (GS); with a reset; rectifiers; or parallel spiking neurons."""
    rate: float | None = None
    """Spikes per neuron and step without penalty, averaged over all hidden neurons; None is no penalty."""
    hidden: tuple[int, ...] = (128, 128, 128)
    """Neurons of each hidden layer."""
    tau: float = 20.0
    """Time constant of synapses and membranes, in steps."""
    normalize: bool = False
    """Normalize the input of neurons over batch and time, as is usual for parallel spiking neurons."""
    order: int = 32
    """Steps that a masked or sliding parallel spiking neuron sees."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=100,
            batch_size=64,
            learning_rate=1e-3,
            schedule="constant",
            warmup=0.0,
            weight_decay=0.0,
            clip_gradient=math.inf,
            threads=1,
        )
    )

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be above 0 and finite, got {self.tau}")
        if self.augment and self.task not in ("spoken-digits", "shd"):
            raise ValueError(f"augment is for recordings of events, spoken-digits and shd, got the task {self.task}")
        if self.rate is not None and not 0 <= self.rate < 1:
            raise ValueError(f"rate must be in [0, 1), or None for no penalty, got {self.rate}")
        if self.order < 1:
            raise ValueError(f"order must be at least 1, got {self.order}")

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The task's official split, with a part of the training set for validation."""
        source = {"data_dir": data_dir, "download": download, "progress": progress}
        splits = load_task(SEQUENCES[self.task], samples=self.samples, **source)
        if self.augment and isinstance(splits.train, EventDataset):
            splits = replace(splits, train=splits.train.augmented(Zoom()))
        return splits

    def network(self) -> Network:
        """Linear layers, neurons, and a readout; weights do not depend on the neurons."""
        task, decay = SEQUENCES[self.task], math.exp(-1 / self.tau)
        layers: list[nn.Module] = []
        inputs = task.channels
        for count in self.hidden:
            layers += [_linear(inputs, count), *([nn.BatchNorm1d(count)] if self.normalize else []), nn.Identity()]
            inputs = count
        readout = SynapticReadout(task.classes, synapse_decay=decay, decay=decay)
        layers += [_linear(inputs, task.classes), readout]
        # Afterwards, since parallel spiking neurons draw weights of their own.
        places = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Identity)]
        for place, count in zip(places, self.hidden, strict=True):
            layers[place] = self._neurons(count, decay, task.steps)
        return Network(*layers)

    def _neurons(self, count: int, decay: float, steps: int) -> nn.Module:
        if self.neurons == "SPSN-SB":
            return SPSN(count, synapse_decay=decay, decay=decay)
        if self.neurons == "SPSN-GS":
            return SPSN(count, synapse_decay=decay, decay=decay, sampler="gumbel")
        if self.neurons == "LIF":
            # The membrane potential is here 1 / (1 - decay) times the published one, and with it the threshold.
            surrogate = FastSigmoid(
                dampening=1 - decay, sharpness=50 * (1 - decay)
            )  # of the other, 1 / (1 + 100 |v - 1|)^2
            return SynapticLIF(
                count,
                synapse_decay=decay,
                decay=decay,
                threshold=1 / (1 - decay),
                reset="zero",
                surrogate=surrogate,
            )
        if self.neurons == "PSN":
            return PSN(steps)
        if self.neurons == "masked PSN":
            return MaskedPSN(steps, min(self.order, steps))
        return SlidingPSN(self.order) if self.neurons == "sliding PSN" else nn.ReLU()

    def regularizers(self) -> Sequence[Regularizer]:
        """The penalty on firing rates, if there is a rate."""
        return () if self.rate is None or self.neurons == "non-spiking" else (TotalRate(limit=self.rate),)

    def measure(self, network: nn.Module, dataset: Dataset) -> Mapping[str, float]:
        """How a stochastic network's accuracy varies by chance, and what it is without noise."""
        layers = [layer for layer in network.modules() if isinstance(layer, SPSN)]
        if not layers:
            return {}

        def accuracy(of: nn.Module = network, seed: int = 0) -> float:
            return evaluate(of, dataset, decode=self.decode, seed=seed).accuracy

        drawn = [accuracy(seed=seed) for seed in _NOISE_SEEDS]
        found = {
            "accuracy over noise seeds, mean": float(np.mean(drawn)),
            "accuracy over noise seeds, deviation": float(np.std(drawn, ddof=1)),
            f"accuracy, mean of {_DRAWS} draws": accuracy(NoiseAveraged(network, _DRAWS)),  # pyright: ignore[reportArgumentType]
        }
        for evaluation in ("threshold", "expected"):
            for layer in layers:
                layer.evaluation = evaluation
            found[f"accuracy, {evaluation}"] = accuracy()
        for layer in layers:
            layer.evaluation = "sampled"
        return found


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Weights within `sqrt(3 / inputs)`, biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))
    nn.init.zeros_(layer.bias)
    return layer
