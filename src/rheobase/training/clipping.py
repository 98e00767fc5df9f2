"""Gradients that are too large are made smaller, also those whose norm no float32 can hold.

Through many steps of time a gradient can become 1e20 in every number and still point somewhere. The sum of its squares is
infinite then, and PyTorch's own clipping makes 0 of such a gradient, or NaN. Here it is divided by its largest number first.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_gradient(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients of `parameters` down to the norm `most`, if theirs is larger.

    Args:
        parameters: those without a gradient do not count.
        most: the largest norm, above 0; infinity leaves all gradients as they are.

    Returns:
        The norm before, a scalar; where that is too large for a float, the largest number instead. It is infinite if `most` is,
        and NaN or infinite if a gradient is not finite: in both cases nothing is changed.

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
    clip_grads_with_norm_(learned, most, get_total_norm(gradients))
    return largest
