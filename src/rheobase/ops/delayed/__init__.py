"""Sums of inputs from some steps ago, with a weight for each delay: a convolution over time, or sums over spike lists.

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
"""The share of nonzero entries up to which spike lists are used."""

# Measured by `benchmarks/spike_delays.py`: forward pass and gradient of the weight together, lists are 2.4 to 4.7 times as fast
# as the convolution at a density of 5 %, and break even near 25 % with 128 outputs and more, and at 13 to 17 % with 20 and 32.
_OUTPUTS_FOR_LIMIT = 300
_LEAST_OUTPUTS = 16
_LEAST_WORK = 1 << 24  # multiplications of the convolution


def delayed(
    seen: Float[Tensor, "S B inputs"],
    weight: Float[Tensor, "outputs K inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "T B outputs"]:
    """`y[t] = bias + sum_k weight[:, k] @ seen[t + K - 1 - k]`, for the `T = S - K + 1` steps that look back on K - 1 others.

    By lists, on the CPU in float32 and float64, an entry that is 0 contributes nothing, as in `rheobase.ops.linear.linear`, and
    there is no second derivative. Elsewhere, and above a density of 20 %, or less for fewer than 60 outputs, it is PyTorch's
    convolution.

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
        # Imported when first needed: numba takes a while.
        from rheobase.ops.delayed import lists

        y = lists.delayed(seen, weight, bias, min(LIMIT, outputs / _OUTPUTS_FOR_LIMIT))
        if y is not None:
            return y
    return reference.delayed(seen, weight, bias)
