"""The arithmetic of spiking networks, one folder an operation.

In each folder `reference.py` is the definition, in plain PyTorch and readable in a minute. `__init__.py` checks the
arguments and chooses who computes: faster implementations stand beside the reference and must agree with it, in outputs and
in all gradients. Layers call only what the folder's `__init__.py` offers.
"""

from rheobase.ops.adaptive import adaptive_lif, recurrent_adaptive_lif
from rheobase.ops.integrate import integrate, synaptic_integrate
from rheobase.ops.lif import Reset, lif, synaptic_lif
from rheobase.ops.linear import linear
from rheobase.ops.recurrent import recurrent_lif
from rheobase.ops.single_spike import first_spikes, single_spike
from rheobase.ops.stochastic import stochastic_lif

__all__ = [
    "Reset",
    "adaptive_lif",
    "first_spikes",
    "integrate",
    "lif",
    "linear",
    "recurrent_adaptive_lif",
    "recurrent_lif",
    "single_spike",
    "stochastic_lif",
    "synaptic_integrate",
    "synaptic_lif",
]
