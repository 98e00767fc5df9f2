"""Layers over time: the container that merges time into the batch, readouts, delays, dropout, pooling, skip connections; linear
layers for spikes; learned delays; standardized and quantized weights; and recomputation that saves memory."""

from rheobase.layers.averaged import NoiseAveraged
from rheobase.layers.delay import Delay
from rheobase.layers.delayed_linear import DelayedLinear
from rheobase.layers.dropout import Dropout
from rheobase.layers.folded import fold
from rheobase.layers.hold import Hold
from rheobase.layers.pooling import SpikeMaxPool2d
from rheobase.layers.quantized import integer_weights, quantize, quantized
from rheobase.layers.readout import LeakyReadout, SynapticReadout
from rheobase.layers.recompute import Recompute
from rheobase.layers.residual import Residual
from rheobase.layers.sequential import Sequential
from rheobase.layers.spike_linear import SpikeLinear
from rheobase.layers.standardized import standardize, standardized
from rheobase.temporal import Temporal

__all__ = [
    "Delay",
    "DelayedLinear",
    "Dropout",
    "Hold",
    "LeakyReadout",
    "NoiseAveraged",
    "Recompute",
    "Residual",
    "Sequential",
    "SpikeLinear",
    "SpikeMaxPool2d",
    "SynapticReadout",
    "Temporal",
    "fold",
    "integer_weights",
    "quantize",
    "quantized",
    "standardize",
    "standardized",
]
