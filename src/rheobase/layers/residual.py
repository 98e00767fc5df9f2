"""Blocks that add their input to their output, so that a deep network has short paths through it.

A block with a skip connection learns what to add, and gradients reach the first layers without passing all the others. With
spikes there is a choice of where to add. Added after the last neurons of a block, as here, the skipped input is unchanged, and
a block that never fires is the identity (the element-wise connection "ADD" of Fang et al., "Deep Residual Learning in Spiking
Neural Networks", NeurIPS 2021). The output is a sum of spikes, 0, 1, 2 and so on.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from rheobase.layers.initialization import HIDDEN_RATE
from rheobase.layers.sequential import Sequential
from rheobase.ops.arguments import parts_of
from rheobase.temporal import Temporal


class Residual(Temporal):
    """Layers in sequence, with a skip connection: `y = layers(x) + shortcut(x)`.

    Args:
        layers: as for `Sequential`, in order; initialized for input from hidden neurons.
        shortcut: what is applied to `x` on the other path, such as a 1 x 1 `nn.Conv2d` where the number of maps changes, whose
            weights are left as they are; None is `x` itself.

    Raises:
        TypeError: as `Sequential`.

    Example:
        >>> import torch, rheobase as rb
        >>> conv = lambda: nn.Conv2d(8, 8, 3, padding=1)
        >>> block = Residual(conv(), rb.LIF(8), conv(), rb.LIF(8))
        >>> block((torch.rand(10, 2, 8, 6, 6) < 0.1).float()).shape
        torch.Size([10, 2, 8, 6, 6])
    """

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = Sequential(*layers, input_rate=HIDDEN_RATE)
        self.shortcut = Sequential(*(() if shortcut is None else (shortcut,)), input_rate=None)

    def run(self, x: Float[Tensor, "T B *features"], state: Any = None) -> tuple[Float[Tensor, "T B *out"], Any]:
        """The sum at every step, and the state of the layers after the last one, starting from `state`; None is rest.

        Raises:
            ValueError: if the layers and the shortcut do not return the same shape, or `state` is not that of such layers.
        """
        before, passed = parts_of(state, 2, "Residual")
        y, before = self.body.run(x, before)
        passing, passed = self.shortcut.run(x, passed)
        return _sum(y, passing), (before, passed)

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *out"]:
        """The sum for the whole sequence `x`, from rest."""
        return _sum(self.body(x), self.shortcut(x))  # calls, so that hooks see the layers


def _sum(y: Tensor, passing: Tensor) -> Tensor:
    if y.shape != passing.shape:
        raise ValueError(
            f"Residual: the layers return shape {tuple(y.shape)}, the shortcut {tuple(passing.shape)}; they must "
            "match: give shortcut=, such as an nn.Conv2d(channels, channels_out, 1)"
        )
    return y + passing
