"""Which layers have weights: those that diagnosis, calibration and operation counts look for in a network."""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from rheobase.layers.delayed_linear import DelayedLinear

Synapses = nn.Linear | _ConvNd | DelayedLinear
"""Linear layers, convolutions, and linear layers with delays."""
