"""How plain PyTorch layers compute in a `Sequential`: as always, but for the product inside.

Time folded into the batch, a linear layer sees mostly zeros, and a convolution more images than the cache holds. The layer runs
through its own `forward`, with all its hooks and parametrizations, and only PyTorch's product inside it is replaced: by sums
over spike lists (`rheobase.ops.linear`), or by pieces (`rheobase.ops.convolution`), wherever that is faster.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, no_type_check

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rheobase.layers.spike_linear import SpikeLinear
from rheobase.ops.convolution import convolution, pieces
from rheobase.ops.linear import linear


def call_folded(layer: nn.Module, x: Tensor) -> Any:
    """`layer(x)`, for `x` with time folded into the batch; the product of a linear layer or a convolution the fastest way."""
    if isinstance(layer, SpikeLinear) or not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer(x)
    with _Products():
        return layer(x)


class _Products(TorchFunctionMode):
    """Within it, `torch.nn.functional.linear` and the convolutions are ours."""

    @no_type_check  # `torch.compile` looks into this, and not into such checks
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        if func in (F.conv1d, F.conv2d, F.conv3d) and len(args) == 7 and isinstance(args[4], tuple):
            return _convolution(func, *args)
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    fits = input.shape[-1:] == weight.shape[1:]
    return (linear if fits else F.linear)(input, weight, bias)  # what does not fit is PyTorch's to refuse


@no_type_check
def _convolution(
    whole: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    images = pieces(x, weight, bias, stride)
    if images is None or x.shape[1] != weight.shape[1] * groups:
        return whole(x, weight, bias, stride, padding, dilation, groups)
    return convolution(x, weight, bias, stride, padding, dilation, groups, images)
