"""Layers over time: the container that folds it, readouts, delays, dropout; linear layers for spikes; what saves memory."""

from rheobase.layers.averaged import NoiseAveraged
from rheobase.layers.delay import Delay
from rheobase.layers.dropout import Dropout
from rheobase.layers.readout import LeakyReadout, SynapticReadout
from rheobase.layers.recompute import Recompute
from rheobase.layers.sequential import Sequential
from rheobase.layers.spike_linear import SpikeLinear
from rheobase.temporal import Temporal

__all__ = [
    "Delay",
    "Dropout",
    "LeakyReadout",
    "NoiseAveraged",
    "Recompute",
    "Sequential",
    "SpikeLinear",
    "SynapticReadout",
    "Temporal",
]
