"""Stochastic networks: the mean of their outputs over several draws."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import as_count, parts_of
from rheobase.temporal import Temporal


class NoiseAveraged(Temporal):
    """A network whose output is the mean over several draws: for stochastic neurons, whose outputs differ from call to call.

    It costs one pass per draw; to see whether it pays, evaluate the network with and without it.

    Args:
        layer: any layer over time, such as a `Sequential`.
        draws: the number of draws to average over.

    Raises:
        TypeError: if `layer` is not a layer over time.
        ValueError: if `draws` is not a whole number of at least 1.

    Example:
        >>> import rheobase as rb
        >>> network = rb.NoiseAveraged(rb.SPSN(), draws=100)
        >>> bool((network(torch.zeros(5, 1, 2)) - 0.5).abs().max() < 0.3)  # at rest, spikes and silence are equally likely
        True
    """

    def __init__(self, layer: Temporal, draws: int) -> None:
        super().__init__()
        if not isinstance(layer, Temporal):
            raise TypeError(
                f"NoiseAveraged: layer must be a layer over time, a rheobase.Temporal, got a {type(layer).__name__}; put it "
                "into a rheobase.Sequential"
            )
        self.layer = layer
        self.draws = as_count(draws, "draws", "NoiseAveraged")

    def run(
        self, x: Float[Tensor, "T B *features"], state: list[Any] | None = None
    ) -> tuple[Float[Tensor, "T B *out"], list[Any]]:
        """The mean output for `x`, and the states of all draws after it, starting from `state`; None is rest.

        Raises:
            ValueError: if `state` is not that of as many draws.
        """
        started = parts_of(state, self.draws, "NoiseAveraged")
        outputs, states = zip(*(self.layer.run(x, before) for before in started), strict=True)
        return torch.stack(outputs).mean(0), list(states)

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *out"]:
        """The mean output for the whole sequence `x`, from rest."""
        return torch.stack([self.layer(x) for _ in range(self.draws)]).mean(0)  # through __call__, for hooks

    def extra_repr(self) -> str:
        """The number of draws, for `print(network)`."""
        return f"draws={self.draws}"
