"""Networks that are alive at their start: initialisation and surrogates from theory, and from one batch."""

from rheobase.stability import conditions
from rheobase.stability.calibration import Calibration, LayerChange, stabilize

__all__ = ["Calibration", "LayerChange", "conditions", "stabilize"]
