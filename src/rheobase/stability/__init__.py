"""Networks that are active from the start: initialization and surrogates from theory, and from one batch."""

from rheobase.stability import conditions
from rheobase.stability.calibration import stabilize
from rheobase.stability.changes import Calibration, LayerChange
from rheobase.stability.fluctuations import fluctuation_driven
from rheobase.stability.single_spike import (
    Calibrated,
    Initialized,
    calibrate_single_spike,
    change_steps,
    initialize_single_spike,
    spike_moment,
    weight_variance,
)

__all__ = [
    "Calibrated",
    "Calibration",
    "Initialized",
    "LayerChange",
    "calibrate_single_spike",
    "change_steps",
    "conditions",
    "fluctuation_driven",
    "initialize_single_spike",
    "spike_moment",
    "stabilize",
    "weight_variance",
]
