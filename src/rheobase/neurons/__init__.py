"""Neuron models, one family a file, with their equations and sources."""

from rheobase.neurons.lif import LIF
from rheobase.neurons.neuron import Neuron

__all__ = ["LIF", "Neuron"]
