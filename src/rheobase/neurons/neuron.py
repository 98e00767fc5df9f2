"""What all neuron layers share: a layer over time whose outputs are spikes."""

from rheobase.parameters import FeatureParameters
from rheobase.temporal import Temporal


class Neuron(Temporal, FeatureParameters):
    """A layer of neurons: currents in, spikes out. Firing rates and rasters are recorded of such layers."""
