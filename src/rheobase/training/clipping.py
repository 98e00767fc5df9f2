"""Clipping of large gradients, including those whose norm exceeds float32.

Through many time steps a gradient can reach 1e20 in every entry and still point somewhere. The sum of its squares is then
infinite, and PyTorch's own clipping turns such a gradient into 0 or NaN. Here it is divided by its largest entry first.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_gradient(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients of `parameters` down to the norm `most`, if theirs is larger.

    Args:
        parameters: those without a gradient are ignored.
        most: the largest norm, above 0; infinity leaves all gradients unchanged.

    Returns:
        The norm before clipping, a scalar; where that overflows, the largest entry instead. It is infinite if `most` is, and
        NaN or infinite if a gradient is not finite: in both cases nothing is changed.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3e30, -4e30])
        >>> clip_gradient([weight], 1.0) > 1e30, weight.grad
        (tensor(True), tensor([ 0.6000, -0.8000]))
    """
    learned = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    norm = get_total_norm(gradients)
    if bool(torch.isfinite(norm)):
        clip_grads_with_norm_(learned, most, norm)
        return norm
    largest = get_total_norm(gradients, math.inf)
    if most == math.inf or not bool(torch.isfinite(largest)):
        return norm
    for gradient in gradients:
        gradient.div_(largest)
    scale = torch.minimum(most / get_total_norm(gradients), largest)  # at most to what they were
    for gradient in gradients:
        gradient.mul_(scale)
    return largest
