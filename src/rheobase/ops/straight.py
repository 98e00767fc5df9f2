"""One value forwards, the gradient of another backwards."""

from typing import Any

import torch
from torch import Tensor


def with_gradient_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value`, whose gradient goes to `stand_in`. (Adding a difference of 0 would spread what is not finite.)

    Example:
        >>> stand_in = torch.tensor(0.2, requires_grad=True)
        >>> spike = with_gradient_of(torch.tensor(1.0), stand_in)
        >>> spike.backward()
        >>> spike.item(), stand_in.grad
        (1.0, tensor(1.))
    """
    return _WithGradientOf.apply(value, stand_in)  # pyright: ignore[reportReturnType]


class _WithGradientOf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, _stand_in: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]
