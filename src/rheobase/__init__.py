"""Rheobase: train spiking neural networks that are alive from the first step."""

from rheobase import (
    data,
    decoding,
    encoding,
    errors,
    first_spike,
    health,
    losses,
    recipes,
    regularizers,
    report,
    stability,
    surrogate,
    training,
)
from rheobase.diagnosis import Diagnosis, Finding, doctor
from rheobase.initial_rates import fit_initial_rates
from rheobase.layers import (
    Delay,
    Dropout,
    Hold,
    LeakyReadout,
    Recompute,
    Sequential,
    SpikeLinear,
    SpikeMaxPool2d,
    fold,
    standardise,
)
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
from rheobase.stability import initialise_single_spike
from rheobase.temporal import Temporal
from rheobase.training import GrowingSteps, Training, evaluate, fit, parameter_groups

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "AdaptiveLIF",
    "Delay",
    "Diagnosis",
    "Dropout",
    "Finding",
    "GrowingSteps",
    "Hold",
    "LeakyReadout",
    "Neuron",
    "Recompute",
    "RecurrentAdaptiveLIF",
    "RecurrentLIF",
    "Rouser",
    "Sequential",
    "SingleSpike",
    "SpikeLinear",
    "SpikeMaxPool2d",
    "SynapticLIF",
    "Temporal",
    "Training",
    "data",
    "decay_from_tau",
    "decoding",
    "doctor",
    "encoding",
    "errors",
    "evaluate",
    "first_spike",
    "fit",
    "fit_initial_rates",
    "fold",
    "health",
    "initialise_single_spike",
    "losses",
    "parameter_groups",
    "recipes",
    "regularizers",
    "report",
    "stability",
    "standardise",
    "surrogate",
    "tau_from_decay",
    "training",
]
