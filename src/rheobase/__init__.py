"""Rheobase: train spiking neural networks that are alive from the first step."""

from rheobase import decoding, encoding, losses, surrogate
from rheobase.layers import Dropout, LeakyReadout, Sequential, Temporal
from rheobase.neurons import LIF, Neuron
from rheobase.parameters import decay_from_tau, tau_from_decay

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "Dropout",
    "LeakyReadout",
    "Neuron",
    "Sequential",
    "Temporal",
    "decay_from_tau",
    "decoding",
    "encoding",
    "losses",
    "surrogate",
    "tau_from_decay",
]
