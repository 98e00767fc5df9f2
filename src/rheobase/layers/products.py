"""How plain PyTorch layers compute in a `Sequential`: as usual, except for the one function inside that takes the time.

With time merged into the batch, a linear layer sees mostly zeros, and convolution and pooling see more images than the cache
holds. The layer runs through its own `forward`, with all its hooks and parametrizations, and only PyTorch's function inside it
is replaced, wherever another is faster: a product and a convolution by sums over spike lists, or a convolution in pieces
(`rheobase.ops.linear`, `rheobase.ops.convolution`), and pooling of 2 x 2 by a function of four numbers
(`rheobase.ops.pooling`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, no_type_check

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode

from rheobase.layers.spike_linear import SpikeLinear
from rheobase.ops.convolution import convolution
from rheobase.ops.linear import linear
from rheobase.ops.pooling import average_2x2, maximum_2x2


def call_folded(layer: nn.Module, x: Tensor) -> Any:
    """`layer(x)`, for `x` with time merged into the batch; linear layers, convolutions and pooling in the fastest way."""
    layers = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.AvgPool2d | nn.MaxPool2d
    if isinstance(layer, SpikeLinear) or not isinstance(layer, layers):
        return layer(x)
    with _Products():
        return layer(x)


def is_bare(layer: nn.Module) -> bool:
    """Whether calling `layer` only calls its class's `forward`: it has no hooks."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return not (any(hooks) or module._has_any_global_hook() or "forward" in vars(layer))


class _Products(TorchFunctionMode):
    """Within it, PyTorch's functions of these layers are ours."""

    @no_type_check  # `torch.compile` traces this, but not such checks
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        if func in (F.conv1d, F.conv2d, F.conv3d) and len(args) == 7:
            padding = _in_numbers(args[4], args[1], args[5])
            if padding is not None:
                return convolution(*args[:4], padding, *args[5:])
        if func is F.avg_pool2d and not kwargs and args[1:] in _WINDOWS_OF_2X2:
            return average_2x2(args[0])
        if func is F.max_pool2d and args[1:] in _SIZES_OF_2X2 and kwargs in _MAXIMA_OF_2X2:
            return maximum_2x2(args[0])
        return func(*args, **(kwargs or {}))


# What `nn.AvgPool2d` passes on: kernel and stride, padding, ceil_mode, count_include_pad, divisor_override.
_WINDOWS_OF_2X2 = [(size, stride, 0, False, True, None) for size in (2, (2, 2)) for stride in (2, (2, 2))]

# What `nn.MaxPool2d` does.
_SIZES_OF_2X2 = [(2,), ((2, 2),)]
_MAXIMA_OF_2X2 = [
    {"stride": stride, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    for stride in (2, (2, 2))
]


def pools_2x2(layer: nn.AvgPool2d | nn.MaxPool2d) -> bool:
    """Whether the windows are of 2 x 2 and do not overlap, and averages or maxima, and no more, come out."""
    if isinstance(layer, nn.MaxPool2d):
        settings = {name: getattr(layer, name) for name in _MAXIMA_OF_2X2[0]}
        return (layer.kernel_size,) in _SIZES_OF_2X2 and settings in _MAXIMA_OF_2X2
    settings = layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad
    return (*settings, layer.divisor_override) in _WINDOWS_OF_2X2


@no_type_check
def _in_numbers(padding: str | tuple[int, ...], weight: Tensor, dilation: tuple[int, ...]) -> tuple[int, ...] | None:
    """The padding on each side; None if it is not the same on both."""
    if isinstance(padding, tuple):
        return padding
    around = [
        0 if padding == "valid" else step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=False)
    ]
    return None if any(both % 2 for both in around) else tuple(both // 2 for both in around)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    fits = input.shape[-1:] == weight.shape[1:]
    return (linear if fits else F.linear)(input, weight, bias)  # PyTorch refuses what does not fit
