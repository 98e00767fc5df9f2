"""The linear layer for spikes: checks, and the choice between a product of dense matrices and sums over spike lists.

Spikes are mostly zeros, and a product of dense matrices multiplies them all. A spike list holds the few that are not, and the
output is the sum of the weights that they select. Which of the two is faster depends only on the density of the spikes, which
is counted while the list is built.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops import dense, kernels
from rheobase.ops.arguments import is_plain
from rheobase.ops.linear import fused

__all__ = ["LIMIT", "Path", "check_path", "linear", "why_no_lists"]

Path = Literal["auto", "lists", "dense"]
"""The implementation: spike lists, the product of dense matrices, or whichever is faster."""

LIMIT = 0.25
"""The share of nonzero entries up to which `"auto"` uses lists."""

# Measured by `benchmarks/spike_linear.py`, against oneDNN: forward pass and gradient together, lists broke even at a density of
# 27 % with 128 outputs and more, at 22 % with 64, at 15 % with 32, and at 5 to 7 % with 16 and 20, as fewer outputs share the
# cost of a list. Processors differ in how fast they multiply, so the limits keep clear of these figures.
_OUTPUTS_FOR_LIMIT = 300
_LEAST_OUTPUTS = 16
_LEAST_ROWS = 128  # with fewer, laying out the weight does not pay
_LEAST_WORK = 1 << 23  # multiplications of the dense product; below, it is over before a list is built


def linear(
    x: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    *,
    path: Path = "auto",
) -> Float[Tensor, "*batch outputs"]:
    """`x @ weight.T + bias`, as `torch.nn.functional.linear`, faster where most of `x` is zero.

    By lists, an entry of `x` that is 0 contributes nothing at all, neither to the output nor to the gradient of the weight: a
    weight that is inf or NaN, or a gradient that is, makes NaN only where a spike meets it. (In a dense product, 0 times inf is
    NaN.) An entry that is NaN or inf is an entry like any other. Sums are in a different order than in a dense product, the
    same for every number of threads. The list is kept for the backward pass, not `x`: 4 bytes for each nonzero entry, 8 if not
    all of them are 1 (float64: 12). There is no second derivative by lists; it is refused.

    Args:
        x: the spikes, or any mostly zero input, `(..., inputs)`.
        weight: `(outputs, inputs)`.
        bias: `(outputs,)`.
        path: `"dense"` is the product of dense matrices, `"lists"` are spike lists, on the CPU in float32 and float64. `"auto"`
            uses lists where they are possible and faster, up to a density of 25 %, less for fewer than 75 outputs; otherwise
            the dense product.

    Raises:
        ValueError: if `path` is unknown, or is `"lists"` where these are impossible; the message says why.
        RuntimeError: if the shapes or types do not match, from PyTorch.

    Example:
        >>> spikes = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        >>> linear(spikes, torch.tensor([[1.0, 2.0, 3.0]]), path="lists")
        tensor([[2.],
                [4.]])
    """
    check_path(path, "linear")
    if path == "dense" or (path == "auto" and not _worthwhile(x, weight)):
        return dense.linear(x, weight, bias)
    reason = why_no_lists(x, weight, bias)
    if reason is None:
        limit = 1.0 if path == "lists" else min(LIMIT, len(weight) / _OUTPUTS_FOR_LIMIT)
        return fused.linear(x, weight, bias, limit)
    if path == "lists":
        raise ValueError(f"linear: path='lists' is not possible: {reason}; path='auto' takes the dense product then")
    return dense.linear(x, weight, bias)


def check_path(path: Path, what: str) -> None:
    """Refuse an unknown path.

    Raises:
        ValueError: if `path` is unknown.
    """
    if path not in get_args(Path):
        raise ValueError(f"{what}: path must be one of {', '.join(map(repr, get_args(Path)))}, got {path!r}")


def _worthwhile(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is large enough for looking for zeros to pay."""
    if x.ndim == 0 or weight.ndim != 2 or len(weight) < _LEAST_OUTPUTS:
        return False
    return x.shape[:-1].numel() >= _LEAST_ROWS and x.numel() * len(weight) >= _LEAST_WORK


def why_no_lists(x: Tensor, weight: Tensor, bias: Tensor | None, *others: Tensor | None) -> str | None:
    """Why lists are impossible, in words; None if they are possible. All tensors must be of one kind, weight and bias must
    fit."""
    tensors = [tensor for tensor in (x, weight, bias, *others) if tensor is not None]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return f"there are lists on the CPU alone, x is on {x.device}, weight on {weight.device}"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if x.dtype not in (torch.float32, torch.float64) or any(tensor.dtype != x.dtype for tensor in tensors):
        return f"there are lists for float32 and float64, x is {x.dtype}, weight {weight.dtype}"
    if x.ndim == 0 or x.shape[-1:] != weight.shape[1:]:
        return f"x of shape {tuple(x.shape)} does not fit a weight of shape {tuple(weight.shape)}"
    if bias is not None and bias.shape != weight.shape[:1]:
        return f"a bias of shape {tuple(bias.shape)} does not fit a weight of shape {tuple(weight.shape)}"
    if not torch.compiler.is_compiling() and not all(map(is_plain, tensors)):
        return "there are lists for plain dense tensors, and not within torch.jit.trace or a transform of torch.func"
    return kernels.why_not("cpu")
