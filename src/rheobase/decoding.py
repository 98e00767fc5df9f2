"""Decoding: from output units over time to one number per class.

All take `(T, B, C)`, the membrane potentials of a readout or the spikes of output neurons, and return `(B, C)`, to be used as
logits. Sum, mean and count differ by a factor, but the factor is the temperature of the softmax: with T = 1,000 a sum makes
every decision certain before anything is learned.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rheobase.ops.arguments import state_type


def _check(output: Tensor, what: str) -> None:
    if len(output) == 0:
        raise ValueError(f"{what}: output has no time steps, got shape {tuple(output.shape)}")


def sum(output: Float[Tensor, "T B *C"]) -> Float[Tensor, "B *C"]:
    """The sum over time.

    Example:
        >>> import torch
        >>> sum(torch.ones(4, 1, 2))
        tensor([[4., 4.]])
    """
    _check(output, "sum")
    return output.sum(0)


def mean(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The mean over time: the usual choice with a `LeakyReadout`; of spikes, the firing rate.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`: the mean is over these; None is all. Where a sample has none, it is 0.

    Example:
        >>> import torch
        >>> mean(torch.tensor([0.0, 1.0]).view(2, 1, 1))
        tensor([[0.5000]])
        >>> mean(torch.tensor([0.0, 1.0]).view(2, 1, 1), mask=torch.tensor([[False], [True]]))
        tensor([[1.]])
    """
    _check(output, "mean")
    if mask is None:
        return output.mean(0)
    there = mask.view(*mask.shape, *[1] * (output.ndim - 2))
    return torch.where(there, output, 0).sum(0) / there.sum(0).clamp(min=1)


def max(output: Float[Tensor, "T B *C"]) -> Float[Tensor, "B *C"]:
    """The maximum over time: each class is judged by its best moment. Only that moment receives a gradient.

    Example:
        >>> import torch
        >>> max(torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1))
        tensor([[3.]])
    """
    _check(output, "max")
    return output.amax(0)


def last(output: Float[Tensor, "T B *C"]) -> Float[Tensor, "B *C"]:
    """The value after the last step.

    Example:
        >>> import torch
        >>> last(torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1))
        tensor([[1.]])
    """
    _check(output, "last")
    return output[-1]


def spike_count(spikes: Float[Tensor, "T B *C"]) -> Float[Tensor, "B *C"]:
    """The number of spikes of each output neuron.

    Args:
        spikes: 0 or 1, `(T, B, C)`.

    Returns:
        Counts, `(B, C)`, in float32 at least.

    Raises:
        ValueError: if there are no time steps, or `spikes` holds anything but 0 and 1 (a membrane potential, most likely).

    Example:
        >>> import torch
        >>> spike_count(torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1))
        tensor([[2.]])
    """
    _check(spikes, "spike_count")
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise ValueError("spike_count: spikes must be 0 or 1; to decode membrane potentials use sum, mean, max or last")
    return spikes.sum(0, dtype=state_type(spikes))  # bfloat16 cannot count beyond 256
