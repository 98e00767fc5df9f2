"""Which steps are credited with a spike that a neuron can fire only once."""

from typing import Literal

Credit = Literal["ramp", "early_ramp", "product", "detached"]
"""How the gradient of spikes becomes one of threshold crossings; see `rheobase.ops.single_spike.single_spike`."""
