"""Long sequences in little memory: what the backward pass needs is recomputed, piece by piece.

Training keeps values for every neuron and step until the backward pass reads them: in a network, 4 bytes for each membrane
potential and 4 for each input of a linear layer, times T. Instead, a sequence can be cut into pieces of about sqrt(T) steps.
Only the state before each piece is kept; the backward pass runs the piece again from that state, and keeps values for only one
piece at a time. Memory then grows with sqrt(T), and a training step takes one more forward pass.

Also kept are the input and the output of all steps, and those of whatever is outside the pieces.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rheobase.layers.order import InSequence
from rheobase.ops.arguments import as_count
from rheobase.temporal import Temporal, detach


class Recompute(InSequence):
    """A layer or a whole network that trains in memory proportional to `sqrt(T)`; same outputs, same gradients.

    Without gradients, as in evaluation, it runs its layer in one piece. So it does where hooks observe or change what the inner
    layers receive: with penalties on activity, within `rheobase.masked`, and in `stabilize` and `doctor`.

    Args:
        layer: any layer over time, such as a `Sequential`.
        steps: the steps in a piece; None takes the square root of T, which needs the least memory.
        truncated: whether the gradient ends where a piece begins: each piece learns from its own steps alone, as if the state
            that it started from were given (truncated backpropagation through time). The outputs are the same.

    Raises:
        TypeError: if `layer` is not a layer over time, or holds a batch normalization, which takes its mean over all steps and
            so cannot work piece by piece.
        ValueError: if `steps` is not a whole number of at least 1.

    Example:
        >>> import rheobase as rb
        >>> from torch import nn
        >>> network = rb.Recompute(rb.Sequential(nn.Linear(5, 8), rb.LIF(8), nn.Linear(8, 2), rb.LeakyReadout(2)))
        >>> network(torch.ones(1000, 1, 5)).sum().backward()
    """

    def __init__(self, layer: Temporal, steps: int | None = None, *, truncated: bool = False) -> None:
        super().__init__()
        if not isinstance(layer, Temporal):
            raise TypeError(
                f"Recompute: layer must be a layer over time, got {type(layer).__name__}; put it into an rb.Sequential"
            )
        for name, module in layer.named_modules():
            if isinstance(module, _BatchNorm):
                raise TypeError(
                    f"Recompute: layer must hold no batch normalization, got {type(module).__name__} at {name}: it "
                    "needs all steps of a sequence at once, but receives one piece at a time; use a LayerNorm"
                )
        self.layer = layer
        self.steps = None if steps is None else as_count(steps, "steps", "Recompute")
        self.truncated = truncated

    def run(self, x: Float[Tensor, "T B *features"], state: Any = None) -> tuple[Float[Tensor, "T_out B *out"], Any]:
        """The layer's outputs for `x` and the state after it, starting from `state`; None is rest."""
        if self._is_whole(x):
            return self.layer.run(x, state)
        outputs = []
        for piece in x.split(self._steps(x)):
            y, state = checkpoint(self.layer.run, piece, state, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
            outputs.append(y)
            if self.truncated:
                state = detach(state)
        return torch.cat(outputs), state

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T_out B *out"]:
        """The layer's outputs for the whole sequence `x`, from rest."""
        # Where nothing is recomputed the layer is called directly, so that hooks on the layers inside see it.
        return self.layer(x) if self._is_whole(x) else self.run(x)[0]

    def _steps(self, x: Tensor) -> int:
        return self.steps or max(1, math.isqrt(len(x)))

    def _is_whole(self, x: Tensor) -> bool:
        return not torch.is_grad_enabled() or len(x) <= self._steps(x)

    def extra_repr(self) -> str:
        """The length of a piece, for `print(network)`."""
        return f"steps={self.steps}" + (", truncated=True" if self.truncated else "")


@contextmanager
def in_one_piece(network: nn.Module) -> Iterator[None]:
    """Within it, every `Recompute` in `network` calls its layer directly: in pieces, hooks on the layers inside see nothing."""
    wrappers = [module for module in network.modules() if isinstance(module, Recompute)]
    before = [vars(wrapper).get("forward") for wrapper in wrappers]
    for wrapper in wrappers:
        wrapper.forward = wrapper.layer.__call__
    try:
        yield
    finally:
        for wrapper, outer in zip(wrappers, before, strict=True):
            if outer is None:
                del wrapper.forward
            else:  # within another such block
                wrapper.forward = outer
