"""How a membrane potential without a reset becomes an output."""

from typing import Literal

Sampler = Literal["bernoulli", "gumbel"]
"""`"bernoulli"` and `"gumbel"` draw spikes, with gradients of their own: see `rheobase.ops.stochastic.stochastic_lif`."""

Firing = Literal["bernoulli", "gumbel", "threshold", "expected"]
"""A `Sampler`, or without noise: `"threshold"` fires where a spike is at least as likely as silence, `"expected"` is the
probability itself."""
