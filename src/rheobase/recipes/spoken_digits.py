"""Spoken digits: real speech, through a model of the cochlea, as spikes.

Ten digits by six speakers, from the Free Spoken Digit Dataset. The compact set comes with the package, so this is the recipe
for a first run: minutes on two CPU cores, nothing to download. It is not the Spiking Heidelberg Digits, and accuracies on the
two are not comparable.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rheobase.data import (
    DropEvents,
    EventDataset,
    Progress,
    ShiftChannels,
    ShiftTime,
    Splits,
    StretchTime,
    concatenate,
    split,
    spoken_digits,
)
from rheobase.layers import Delay, DelayedLinear, Dropout, LeakyReadout, Sequential
from rheobase.neurons import LIF
from rheobase.recipes.recipe import Recipe
from rheobase.surrogate import FastSigmoid
from rheobase.training import Training

CHANNELS = 140
"""Channels that the network sees: those of the compact set; the full set's 700 are summed in groups of five."""


@dataclass(frozen=True)
class SpokenDigits(Recipe):
    """Ten spoken digits as cochlea spikes, by a feed-forward network of LIF neurons with learned decays and thresholds."""

    edition: Literal["compact", "full"] = "compact"
    """compact comes with the package; full is read from the data folder."""
    holdout_speaker: str | None = None
    """Leave this speaker out of training, and report the accuracy on this unheard voice."""
    validation: float = 0.1
    """Share of the official training set held out for validation."""
    dt: float = 0.02
    """Seconds per time step."""
    steps: int = 40
    """Time steps; the longest recordings are cut."""
    hidden: tuple[int, ...] = (256, 256)
    """Neurons of each hidden layer."""
    shortest_memory: float = 2.0
    """Initial time constant of a layer's fastest neurons, in steps; the others are spread evenly on a log scale."""
    longest_memory: float = 30.0
    """Initial time constant of a layer's slowest neurons, in steps."""
    delays: tuple[int, ...] = (0,)
    """Delays, in steps, of a hidden layer's spikes to the next one; each further delay adds a copy of its synapses."""
    longest_delay: int = 0
    """Largest learned delay of hidden neurons' synapses, in steps; with 0 they have only `delays`."""
    dropout: float = 0.1
    """Dropout: share of hidden neurons silenced in a training sample."""
    shift_channels: int = 1
    """Augmentation: largest shift of a sample up or down, in channels of the 140."""
    shift_time: float = 0.05
    """Augmentation: largest shift of a sample in time, in seconds."""
    stretch_time: float = 0.1
    """Augmentation: largest change of a sample's speed, as a share."""
    drop_events: float = 0.1
    """Augmentation: largest share of a sample's spikes removed."""
    training: Training = field(default_factory=lambda: Training(epochs=70, threads=1))

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)
        if not 0 < self.shortest_memory <= self.longest_memory < math.inf:
            raise ValueError(
                "shortest_memory must be above 0 and at most longest_memory, "
                f"got {self.shortest_memory} and {self.longest_memory}"
            )
        if self.longest_delay < 0:
            raise ValueError(f"longest_delay must be at least 0, got {self.longest_delay}")

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The official split, with a part of the training set for validation; with a held-out speaker, without that voice."""
        official = spoken_digits(self.edition, data_dir)
        group = official[0].channels // CHANNELS
        train, test, everything = (
            EventDataset(events, dt=self.dt, steps=self.steps, group=group)
            for events in (*official, concatenate(*official))
        )
        also_test = {}
        if self.holdout_speaker is not None:
            also_test[f"unheard speaker {self.holdout_speaker}"] = everything.where(speaker=self.holdout_speaker)
            train, test = (part.without(speaker=self.holdout_speaker) for part in (train, test))
        train, validation = split(train, self.validation, seed=0)
        augmented = train.augmented(
            StretchTime(1 - self.stretch_time, 1 + self.stretch_time),
            ShiftTime(self.shift_time),
            ShiftChannels(self.shift_channels * group),
            DropEvents(self.drop_events),
        )
        return Splits(augmented, validation, test, also_test)

    def network(self) -> Sequential:
        """Linear layers, batch normalization, LIF neurons with a spread of time constants, delays, and a leaky readout."""
        layers: list[nn.Module] = []
        inputs = CHANNELS
        for neurons in self.hidden:
            fastest, slowest = math.log10(self.shortest_memory), math.log10(self.longest_memory)
            time_constants = torch.logspace(fastest, slowest, neurons)
            layers += [
                self._synapses(inputs, neurons),
                nn.BatchNorm1d(neurons),  # over batch and time; without it, a fifth of the neurons would start dead
                LIF(
                    neurons,
                    decay=torch.exp(-1 / time_constants),
                    surrogate=FastSigmoid(sharpness=2.0),
                    learn=("decay", "threshold"),
                ),
                Dropout(self.dropout),
                Delay(*self.delays),
            ]
            inputs = neurons * len(self.delays)
        return Sequential(*layers, nn.Linear(inputs, 10), LeakyReadout(10, decay=0.95, learn=("decay",)))

    def _synapses(self, inputs: int, neurons: int) -> nn.Module:
        if self.longest_delay:
            return DelayedLinear(inputs, neurons, longest=self.longest_delay, bias=False)
        return nn.Linear(inputs, neurons, bias=False)
