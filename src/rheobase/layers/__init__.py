"""Layers over time: the container that folds it, the readout, delays, dropout, and what saves memory."""

from rheobase.layers.delay import Delay
from rheobase.layers.dropout import Dropout
from rheobase.layers.readout import LeakyReadout
from rheobase.layers.recompute import Recompute
from rheobase.layers.sequential import Sequential
from rheobase.temporal import Temporal

__all__ = ["Delay", "Dropout", "LeakyReadout", "Recompute", "Sequential", "Temporal"]
