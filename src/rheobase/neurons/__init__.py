"""Neuron models, one family a file, with their equations and sources."""

from rheobase.neurons.lif import LIF
from rheobase.neurons.neuron import IntegrateAndFire, Neuron
from rheobase.neurons.recurrent_lif import RecurrentLIF
from rheobase.neurons.single_spike import SingleSpike
from rheobase.neurons.synaptic_lif import SynapticLIF

__all__ = ["LIF", "IntegrateAndFire", "Neuron", "RecurrentLIF", "SingleSpike", "SynapticLIF"]
