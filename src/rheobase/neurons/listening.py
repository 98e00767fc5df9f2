"""A surrogate that only listens: how the membrane potential of any neuron is had without computing it a second way.

Every neuron asks its surrogate, at every step, what a distance from the threshold means. Whoever wants to know the membrane
potential can therefore stand in the surrogate's place, and whatever the neuron is, gets what its own equations say.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import state_type
from rheobase.surrogate import Surrogate


@dataclass(frozen=True)
class Listening(Surrogate):
    """A step, as any surrogate is forwards, that remembers all that it was asked; it has no gradient."""

    heard: list[Tensor] = field(default_factory=list, compare=False)
    """The distances from the threshold, one a step, `(B, *features)` or with a time axis of 1."""

    def spike(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 where `u >= 0`, else 0."""
        self.heard.append(u)
        return (u >= 0).to(u.dtype)

    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """All that was heard, in the order of time, for a neuron whose input was `x`."""
        steps = [u.reshape(x.shape[1:]) for u in self.heard]
        return torch.stack(steps) if steps else torch.empty_like(x, dtype=state_type(x))
