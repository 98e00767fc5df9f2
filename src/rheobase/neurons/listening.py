"""A surrogate that only listens: it gets the membrane potential of any neuron without computing it a second way.

At every step, every neuron asks its surrogate what a distance from the threshold means. A listener in the surrogate's place
therefore receives the membrane potential that the neuron's own equations give, whatever the neuron is.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import state_type
from rheobase.surrogate import Surrogate


@dataclass(frozen=True)
class Listening(Surrogate):
    """A step, as any surrogate is in the forward pass, that records everything it was asked; it has no gradient."""

    heard: list[Tensor] = field(default_factory=list, compare=False)
    """The distances from the threshold, one per step, `(B, *features)` or with a time axis of 1."""

    def spike(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 where `u >= 0`, else 0."""
        self.heard.append(u)
        return (u >= 0).to(u.dtype)

    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """Everything heard, in order of time, for a neuron whose input was `x`."""
        steps = [u.reshape(x.shape[1:]) for u in self.heard]
        return torch.stack(steps) if steps else torch.empty_like(x, dtype=state_type(x))
