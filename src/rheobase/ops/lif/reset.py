"""What becomes of the membrane potential of a neuron that has just fired."""

from typing import Literal

Reset = Literal["subtract", "zero", "none"]
"""`"subtract"` takes the threshold away, `"zero"` starts anew from 0, `"none"` leaves the potential as it is."""
