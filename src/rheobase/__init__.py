"""Rheobase: train spiking neural networks that are alive from the first step."""

from rheobase import data, decoding, encoding, errors, health, losses, recipes, report, stability, surrogate, training
from rheobase.layers import Delay, Dropout, LeakyReadout, Recompute, Sequential, SpikeLinear
from rheobase.neurons import (
    LIF,
    AdaptiveLIF,
    Neuron,
    RecurrentAdaptiveLIF,
    RecurrentLIF,
    Rouser,
    SingleSpike,
    SynapticLIF,
)
from rheobase.parameters import decay_from_tau, tau_from_decay
from rheobase.stability import stabilize
from rheobase.temporal import Temporal
from rheobase.training import Training, evaluate, fit, parameter_groups

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "AdaptiveLIF",
    "Delay",
    "Dropout",
    "LeakyReadout",
    "Neuron",
    "Recompute",
    "RecurrentAdaptiveLIF",
    "RecurrentLIF",
    "Rouser",
    "Sequential",
    "SingleSpike",
    "SpikeLinear",
    "SynapticLIF",
    "Temporal",
    "Training",
    "data",
    "decay_from_tau",
    "decoding",
    "encoding",
    "errors",
    "evaluate",
    "fit",
    "health",
    "losses",
    "parameter_groups",
    "recipes",
    "report",
    "stability",
    "stabilize",
    "surrogate",
    "tau_from_decay",
    "training",
]
