"""Layers over time: the container that folds it, the readout, dropout."""

from rheobase.layers.dropout import Dropout
from rheobase.layers.readout import LeakyReadout
from rheobase.layers.sequential import Sequential
from rheobase.temporal import Temporal

__all__ = ["Dropout", "LeakyReadout", "Sequential", "Temporal"]
