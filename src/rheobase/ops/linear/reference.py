"""The linear layer, as defined: PyTorch's own product of dense matrices."""

from torch import Tensor
from torch.nn import functional as F

_FEW_INPUTS = 8
"""Up to which the gradient of the weight is 4 to 8 times faster when it is computed as the transpose of its transpose."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` over the last axis; see `rheobase.ops.linear.linear`."""
    if weight.ndim == 2 and weight.shape[1] <= _FEW_INPUTS and weight.device.type == "cpu":
        # PyTorch computes a gradient in the order in which its tensor lies in memory. In that of the weight, a product of few
        # columns, the libraries for matrix products waste most of every vector.
        weight = weight.t().contiguous().t()
    return F.linear(x, weight, bias)
