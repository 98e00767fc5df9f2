"""Neuron models, one family per file, with their equations and sources."""

from rheobase.neurons.adaptive_lif import AdaptiveLIF
from rheobase.neurons.lif import LIF
from rheobase.neurons.neuron import IntegrateAndFire, Neuron
from rheobase.neurons.paralif import ParaLIF
from rheobase.neurons.psn import PSN, MaskedPSN, SlidingPSN
from rheobase.neurons.recurrent_adaptive_lif import RecurrentAdaptiveLIF
from rheobase.neurons.recurrent_lif import RecurrentLIF
from rheobase.neurons.rouser import Rouser
from rheobase.neurons.single_spike import SingleSpike
from rheobase.neurons.spsn import SPSN
from rheobase.neurons.synaptic_lif import SynapticLIF

__all__ = [
    "LIF",
    "PSN",
    "SPSN",
    "AdaptiveLIF",
    "IntegrateAndFire",
    "MaskedPSN",
    "Neuron",
    "ParaLIF",
    "RecurrentAdaptiveLIF",
    "RecurrentLIF",
    "Rouser",
    "SingleSpike",
    "SlidingPSN",
    "SynapticLIF",
]
