"""Layers over time: the container that folds it, the readout, delays, dropout; and the linear layer for spikes."""

from rheobase.layers.delay import Delay
from rheobase.layers.dropout import Dropout
from rheobase.layers.readout import LeakyReadout
from rheobase.layers.sequential import Sequential
from rheobase.layers.spike_linear import SpikeLinear
from rheobase.temporal import Temporal

__all__ = ["Delay", "Dropout", "LeakyReadout", "Sequential", "SpikeLinear", "Temporal"]
