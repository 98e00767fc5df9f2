"""Rheobase: train spiking neural networks that are alive from the first step."""

from rheobase import data, decoding, encoding, errors, health, losses, recipes, report, surrogate, training
from rheobase.layers import (
    Delay,
    Dropout,
    LeakyReadout,
    NoiseAveraged,
    Recompute,
    Sequential,
    SpikeLinear,
    SynapticReadout,
)
from rheobase.neurons import (
    LIF,
    PSN,
    SPSN,
    AdaptiveLIF,
    MaskedPSN,
    Neuron,
    ParaLIF,
    RecurrentAdaptiveLIF,
    RecurrentLIF,
    Rouser,
    SingleSpike,
    SlidingPSN,
    SynapticLIF,
)
from rheobase.padding import mask_of, masked
from rheobase.parameters import decay_from_tau, tau_from_decay
from rheobase.temporal import Temporal
from rheobase.training import Training, evaluate, fit, parameter_groups

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "PSN",
    "SPSN",
    "AdaptiveLIF",
    "Delay",
    "Dropout",
    "LeakyReadout",
    "MaskedPSN",
    "Neuron",
    "NoiseAveraged",
    "ParaLIF",
    "Recompute",
    "RecurrentAdaptiveLIF",
    "RecurrentLIF",
    "Rouser",
    "Sequential",
    "SingleSpike",
    "SlidingPSN",
    "SpikeLinear",
    "SynapticLIF",
    "SynapticReadout",
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
    "mask_of",
    "masked",
    "parameter_groups",
    "recipes",
    "report",
    "surrogate",
    "tau_from_decay",
    "training",
]
