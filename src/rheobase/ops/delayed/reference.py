"""Delayed sums as a convolution over time: the definition, and the implementation where there are no spike lists."""

import torch
from torch import Tensor
from torch.nn import functional


def delayed(seen: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`y[t] = bias + sum_k weight[:, k] @ seen[t + K - 1 - k]`.

    Args:
        seen: `(T + K - 1, B, inputs)`.
        weight: `(outputs, K, inputs)`.
        bias: `(outputs,)`.

    Returns:
        `(T, B, outputs)`.
    """
    kernel = weight.movedim(1, 2).flip(2)
    return functional.conv1d(seen.permute(1, 2, 0), kernel, bias).permute(2, 0, 1)


def on_seen(weight: Tensor, on_y: Tensor) -> Tensor:
    """The gradient of `seen` from that of `y`, `(T, B, outputs)`: each is handed back to the K steps that it heard."""
    kernel = weight.movedim(1, 2).flip(2)
    with torch.autocast(on_y.device.type, enabled=False):
        return functional.conv_transpose1d(on_y.permute(1, 2, 0), kernel).permute(2, 0, 1)
