"""Finding the time axis: a test that needs no labels.

Batch-first data fails silently: `(B, T, N)` is read as `(T, B, N)`, the network integrates over samples, and only the result is
wrong. What gives it away is that samples have no order. Along the batch axis, neighbours are no more alike than any other two;
along time, where the data has temporal structure, they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_ENOUGH = 12
"""The number of entries an axis needs for its neighbours to mean anything."""
_GROUPS = 16
"""Single inputs hardly ever repeat a spike at the next step; groups of them show the trend."""


def roughness(x: Float[Tensor, "T B *features"], axis: int) -> float:
    """How much neighbours along an axis differ, as a share of any two entries' difference: 1 where their order means nothing.

    Args:
        x: a batch; only the first 128 entries of time and batch are used.
        axis: 0 or 1.

    Returns:
        The mean squared difference of neighbours, divided by that of all pairs: near 0 along a smooth axis, near 1 along one
        whose entries have no order. NaN where all entries are the same.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.linspace(0, 1, 50).view(50, 1, 1) + torch.rand(1, 20, 3)
        >>> roughness(x, 0) < 0.1 < 0.8 < roughness(x, 1)
        True
    """
    x = x[:128, :128].detach().cpu().double().flatten(2).movedim(axis, 0)
    x = torch.stack([group.mean(-1) for group in x.tensor_split(min(_GROUPS, x.shape[-1]), -1)], -1)
    neighbours = (x[1:] - x[:-1]).square().mean()
    # The mean over all pairs of different entries is twice the variance, whose divisor is one less than their number.
    return (neighbours / (2 * x.var(0).mean())).item()


def looks_batch_first(x: Float[Tensor, "T B *features"]) -> bool:
    """Whether the second axis of `x` behaves like time, and the first like unordered samples.

    It says so only where it is clear: with a dozen entries or more along both axes, and structure in time. Noise, or a batch
    sorted by class, is no evidence.

    Args:
        x: a batch that should be `(T, B, *features)`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.linspace(0, 1, 50).view(50, 1, 1) + torch.rand(1, 20, 3)
        >>> looks_batch_first(x), looks_batch_first(x.transpose(0, 1))
        (False, True)
    """
    if min(x.shape[:2]) < _ENOUGH:
        return False
    # For n unordered entries, the roughness is 1 with a standard deviation of about 1 / sqrt(n), however alike their features
    # are (von Neumann, 1941): three standard deviations must lie between. An image shown at every step is not rough at all.
    clear = min(0.6, 1 - 3 / min(x.shape[1], 128) ** 0.5)
    return roughness(x, 0) > 0.8 and not roughness(x, 1) >= clear
