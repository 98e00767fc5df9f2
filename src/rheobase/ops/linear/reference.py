"""The linear layer, as defined: PyTorch's own product of dense matrices."""

from torch import Tensor
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` over the last axis; see `rheobase.ops.linear.linear`."""
    return F.linear(x, weight, bias)
