"""Incremental time-step training: few steps initially, all of them at the end.

A training step costs T times as much as one time step, and what early decisions need is learned in few of them. So training
begins with a small T and grows it. The weights of a single-spike network depend on T, so they are scaled whenever it changes.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.layers import Hold, Sequential
from rheobase.layers.order import InSequence
from rheobase.scheduled import Scheduled
from rheobase.stability import change_steps


class GrowingSteps(InSequence, Scheduled):
    """A network of `SingleSpike` neurons whose number of steps grows to the last one over equal parts of training.

    The output has as many steps as the network at that time. The network is left with the steps of its best epoch.

    Args:
        network: the network, with a `Hold` that makes the steps, and weights for the last number of steps.
        steps: the numbers of steps, ascending: `(2, 4, 8)`.

    Raises:
        TypeError: if the network has no `Hold`, or is not one that `change_steps` supports.
        ValueError: if `steps` are not ascending from at least 1, or the steps of a `Hold` are not the last of them.

    Source: Che et al., "Parallel Training Time-to-First-Spike Spiking Neural Networks", 2026: its direction, from the abstract.

    Example:
        >>> import rheobase as rb
        >>> from torch import nn
        >>> layers = rb.Sequential(nn.Linear(9, 8), rb.Hold(8), rb.SingleSpike(8, decay=1.0), nn.Linear(8, 2))
        >>> network = GrowingSteps(layers, (2, 4, 8))
        >>> rb.scheduled.set_progress(network, 0.0)  # as `rheobase.fit` does, epoch for epoch
        >>> network(torch.ones(1, 3, 9)).shape
        torch.Size([2, 3, 2])
    """

    steps_now: Tensor

    def __init__(self, network: Sequential, steps: tuple[int, ...]) -> None:
        super().__init__()
        if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(f"GrowingSteps: steps must be ascending numbers from at least 1, got {steps}")
        self.network = network
        if not self._holds():
            raise TypeError("GrowingSteps: network must have a Hold, whose steps grow; got none")
        for hold in self._holds():
            if hold.steps != steps[-1]:
                raise ValueError(
                    f"GrowingSteps: the network's Hold has {hold.steps} steps, expected the last of {steps}"
                )
        change_steps(network, steps[-1], steps[-1])  # changes nothing; refuses now what would be refused in training
        self.steps = steps
        # Stored with the weights, since these are for this many steps: a checkpoint has both. In between, the holds know it.
        self.register_buffer("steps_now", torch.tensor(steps[-1]))

    def run(self, x: Float[Tensor, "T B *features"], state: Any = None) -> tuple[Float[Tensor, "T_now B *out"], Any]:
        """The network's outputs for `x` and the state after it, with its current steps."""
        return self.network.run(x, state)

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T_now B *out"]:
        """The network's outputs for the whole sequence `x`, with its current steps."""
        return self.network(x)

    def proceed(self, progress: float) -> None:
        """Set the steps, and the weights for them, for `progress` of training."""
        super().proceed(progress)
        part = min(int(progress * len(self.steps)), len(self.steps) - 1)
        change_steps(self.network, self._holds()[0].steps, self.steps[part])

    def _holds(self) -> list[Hold]:
        return [module for module in self.network.modules() if isinstance(module, Hold)]

    def _save_to_state_dict(self, *arguments: Any, **options: Any) -> None:
        self.steps_now.fill_(self._holds()[0].steps)
        super()._save_to_state_dict(*arguments, **options)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        for hold in self._holds():  # the loaded weights are for this many steps
            hold.steps = int(self.steps_now.item())

    def extra_repr(self) -> str:
        """The numbers of steps, for `print(network)`."""
        return f"steps={self.steps}"
