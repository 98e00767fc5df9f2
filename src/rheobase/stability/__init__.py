"""Networks that are alive at their start: initialisation and surrogates from theory, and from one batch."""

from rheobase.stability import conditions
from rheobase.stability.calibration import Calibration, LayerChange, stabilize
from rheobase.stability.fluctuations import fluctuation_driven

__all__ = ["Calibration", "LayerChange", "conditions", "fluctuation_driven", "stabilize"]
