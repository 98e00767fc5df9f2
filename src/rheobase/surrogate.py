"""Surrogate gradients: what replaces the derivative of a spike.

A spike is a step of the membrane potential, and the derivative of a step is zero almost everywhere: no gradient would
reach any weight. In the backward pass the derivative is therefore replaced by a bump around the threshold,

    d spike / d u  :=  dampening * f(sharpness * u),        u = membrane - threshold.

All shapes `f` are normalised alike (Herranz-Celotti and Rouat, "Stabilizing Spiking Neuron Training", arXiv 2202.00282):
`f(0) = 1` and the area under `f` is 1. So `dampening` is the peak and `dampening / sharpness` the area, and two shapes with
the same two numbers differ in shape alone. To carry a setting over from elsewhere: SuperSpike's `1 / (k |u| + 1)^2` is
`FastSigmoid(sharpness=k / 2)`; an arctan of slope `a` is `Arctan(dampening=a / 2, sharpness=a / 2)`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Surrogate:
    """The base of all shapes: a shape is `f` and the two numbers that scale it.

    Args:
        dampening: the peak of the derivative, reached at the threshold; above 0.
        sharpness: how narrow the bump is; above 0. The width is proportional to `1 / sharpness`.

    Raises:
        ValueError: if either number is not positive and finite.
    """

    dampening: float = 1.0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dampening", "sharpness"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{type(self).__name__}: {name} must be positive and finite, got {value}")

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The normalised bump `f(u)`: peak 1 at 0, area 1."""
        raise NotImplementedError

    def derivative(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`dampening * f(sharpness * u)` of the distance `u = membrane - threshold`, any shape."""
        return self.dampening * self.shape(self.sharpness * u)

    def spike(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 where `u >= 0`, else 0, in the type of `u`; its gradient is `derivative(u)`.

        Example:
            >>> u = torch.tensor([-0.5, 0.0, 2.0], requires_grad=True)
            >>> FastSigmoid().spike(u)
            tensor([0., 1., 1.], grad_fn=<_SpikeBackward>)
        """
        return _Spike.apply(u, self)  # pyright: ignore[reportReturnType]


class _Spike(torch.autograd.Function):
    """A step forwards, the surrogate's bump backwards."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(u), None


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """Derivative of the fast sigmoid, `f(u) = 1 / (1 + 2 |u|)^2`: heavy tails, so far neurons still learn.

    Source: Zenke and Ganguli, "SuperSpike", 2018; the best over tasks in arXiv 2202.00282.

    Example:
        >>> FastSigmoid(sharpness=2.0).derivative(torch.tensor([0.0, 0.25]))
        tensor([1.0000, 0.2500])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`1 / (1 + 2 |u|)^2`."""
        return (1 + 2 * u.abs()).square().reciprocal()


@dataclass(frozen=True)
class Arctan(Surrogate):
    """Derivative of the arctangent (a Cauchy bump), `f(u) = 1 / (1 + (pi u)^2)`.

    Source: Fang et al., "Incorporating learnable membrane time constants", 2021.

    Example:
        >>> Arctan().derivative(torch.tensor([0.0, 1 / math.pi]))
        tensor([1.0000, 0.5000])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`1 / (1 + (pi u)^2)`."""
        return (1 + (math.pi * u).square()).reciprocal()


@dataclass(frozen=True)
class Triangular(Surrogate):
    """A triangle, `f(u) = max(1 - |u|, 0)`: no gradient farther than `1 / sharpness` from the threshold.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", 2018.

    Example:
        >>> Triangular().derivative(torch.tensor([0.0, 0.5, 2.0]))
        tensor([1.0000, 0.5000, 0.0000])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`max(1 - |u|, 0)`."""
        return (1 - u.abs()).clamp(min=0)


@dataclass(frozen=True)
class Exponential(Surrogate):
    """Two exponential flanks, `f(u) = exp(-2 |u|)`.

    Source: Shrestha and Orchard, "SLAYER", 2018.

    Example:
        >>> Exponential().derivative(torch.tensor([0.0, math.log(2) / 2]))
        tensor([1.0000, 0.5000])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`exp(-2 |u|)`."""
        return (-2 * u.abs()).exp()


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """A bell, `f(u) = exp(-pi u^2)`: the lightest tails that are not zero.

    Source: Yin, Corradi and Bohte, "Accurate and efficient time-domain classification with adaptive SRNNs", 2021.

    Example:
        >>> Gaussian().derivative(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.0432])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`exp(-pi u^2)`."""
        return (-math.pi * u.square()).exp()
