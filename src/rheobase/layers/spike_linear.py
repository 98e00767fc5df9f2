"""Linear layers that use the sparsity of spikes.

Most of a spiking network's time goes into linear layers, and most of what they multiply are zeros. `rheobase.ops.linear` sums
over spike lists instead. Here is the layer that does so, and how `Sequential` lets a plain `nn.Linear` do so too: the layer
runs as always, through its own `forward` with all its hooks and parametrizations, and only the product inside it is computed
by lists.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rheobase.ops.linear import Path, check_path, linear


class SpikeLinear(nn.Linear):
    """A linear layer for spikes: `torch.nn.Linear`, faster where most of the input is zero.

    Parameters, initialisation and state dict are those of `nn.Linear`. In a `rheobase.Sequential` a plain `nn.Linear` is as
    fast; this layer is for networks of other kinds, and to choose the path.

    Args:
        in_features: the size of the last axis of the input.
        out_features: the size of the last axis of the output.
        bias: add a learned bias.
        path: `"auto"` counts the entries of every input that are not zero, and takes spike lists up to 25 %, else the dense
            product; it also takes the latter where there are no lists: on a GPU, in half precision, under autocast, in
            `torch.compile`. `"lists"` and `"dense"` are always that.
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


def call_with_spikes(layer: nn.Module, x: Tensor) -> Any:
    """`layer(x)`; where `layer` is a plain linear layer, its product uses spike lists when these are faster."""
    if not isinstance(layer, nn.Linear) or isinstance(layer, SpikeLinear):
        return layer(x)
    with _SpikeProducts():
        return layer(x)


class _SpikeProducts(TorchFunctionMode):
    """Within it, `torch.nn.functional.linear` is ours."""

    @no_type_check  # `torch.compile` looks into this, and not into such checks
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (_linear if func is F.linear else func)(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    fits = input.shape[-1:] == weight.shape[1:]
    return (linear if fits else F.linear)(input, weight, bias)  # what does not fit is PyTorch's to refuse
