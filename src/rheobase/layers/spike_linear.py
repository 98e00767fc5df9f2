"""A linear layer that uses the sparsity of spikes.

Most of a spiking network's time goes into linear layers, and most of what they multiply are zeros. `rheobase.ops.linear` sums
over spike lists instead. A plain `nn.Linear` in a `rheobase.Sequential` does so too (`rheobase.layers.products`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.ops.linear import Path, check_path, linear


class SpikeLinear(nn.Linear):
    """A linear layer for spikes: `torch.nn.Linear`, faster where most of the input is zero.

    Parameters, initialization and state dict are those of `nn.Linear`. In a `rheobase.Sequential` a plain `nn.Linear` is as
    fast; this layer is for other kinds of networks, and for choosing the path.

    Args:
        in_features: the size of the last axis of the input.
        out_features: the size of the last axis of the output.
        bias: add a learned bias.
        path: `"auto"` counts the nonzero entries of every input, and uses spike lists up to 25 %, otherwise the dense product;
            it also uses the latter where there are no lists: on a GPU, in half precision, under autocast, in `torch.compile`.
            `"lists"` and `"dense"` fix the path.
        device: where the parameters are.
        dtype: their type.

    Raises:
        ValueError: if `path` is unknown.

    Example:
        >>> layer = SpikeLinear(700, 128)
        >>> spikes = (torch.rand(100, 8, 700) < 0.03).float()
        >>> layer(spikes).shape
        torch.Size([100, 8, 128])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        path: Path = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_path(path, "SpikeLinear")
        super().__init__(in_features, out_features, bias, device, dtype)
        self.path: Path = path

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The output for spikes `(..., in_features)`: `(..., out_features)`."""
        return linear(x, self.weight, self.bias, path=self.path)

    def extra_repr(self) -> str:
        """The sizes and the path, for `print(network)`."""
        return f"{super().extra_repr()}, path={self.path!r}"
