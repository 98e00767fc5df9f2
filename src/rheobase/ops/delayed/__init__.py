"""Sums of what was heard some steps ago, with a weight for each delay: a convolution over time, or sums over spike lists.

Delays multiply the work of a linear layer by the number of steps that they reach back. But a spike that is listed once is
quickly listed K times, and where most of the input is zero the sums that remain are few.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.delayed import reference
from rheobase.ops.linear import why_no_lists

__all__ = ["LIMIT", "delayed"]

LIMIT = 0.2
"""The share of entries that are not zero, up to which spike lists compute."""

# Measured on one thread of an AMD EPYC with AVX-512, 140 to 128 with 26 delays, T = 100, B = 32, forwards and backwards: 61 ms
# by convolution; by lists 15 ms at a density of 3 %, 30 at 10 %, 42 at 15 % and 63 at 25 %. The gradient of the input, where it
# is wanted, adds 38 ms to either. With 20 outputs lists broke even at 13 %, and with few steps below this many multiplications.
_LEAST_OUTPUTS = 32
_LEAST_WORK = 1 << 24


def delayed(
    seen: Float[Tensor, "S B inputs"],
    weight: Float[Tensor, "outputs K inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "T B outputs"]:
    """`y[t] = bias + sum_k weight[:, k] @ seen[t + K - 1 - k]`, for the `T = S - K + 1` steps that look back on K - 1 others.

    By lists, on the CPU in float32 and float64, an entry that is 0 contributes nothing, as in `rheobase.ops.linear.linear`, and
    there is no second derivative. Elsewhere, and above a density of 20 %, it is PyTorch's convolution.

    Args:
        seen: the K - 1 steps before the first, and the sequence, `(T + K - 1, B, inputs)`.
        weight: of every delay k, `(outputs, K, inputs)`.
        bias: `(outputs,)`.

    Example:
        >>> seen = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
        >>> delayed(seen, torch.tensor([[[0.5], [2.0]]]))[:, 0, 0]
        tensor([0.5000, 2.0000])
    """
    steps, outputs = len(seen) - weight.shape[1] + 1, len(weight)
    if not steps:
        return seen.new_zeros(0, seen.shape[1], outputs)
    worthwhile = outputs >= _LEAST_OUTPUTS and steps * seen.shape[1] * weight.numel() >= _LEAST_WORK
    if worthwhile and not torch.compiler.is_compiling() and why_no_lists(seen, weight[:, 0], bias) is None:
        # Imported when it is first needed: numba takes a while.
        from rheobase.ops.delayed import lists

        y = lists.delayed(seen, weight, bias, LIMIT)
        if y is not None:
            return y
    return reference.delayed(seen, weight, bias)
