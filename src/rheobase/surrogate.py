"""Surrogate gradients: what replaces the derivative of a spike.

A spike is a step of the membrane potential, and the derivative of a step is zero almost everywhere: no gradient would
reach any weight. In the backward pass the derivative is therefore replaced by a bump around the threshold,

    d spike / d u  :=  dampening * f(sharpness * u),        u = membrane - threshold.

All shapes `f` are normalised alike (Herranz-Celotti and Rouat, "Stabilizing Spiking Neuron Training", arXiv 2202.00282):
`f(0) = 1` and the area under `f` is 1. So `dampening` is the peak and `dampening / sharpness` the area, and two shapes with
the same two numbers differ in shape alone. (`MultiGaussian` is negative beside its bump, and its area counts that.) To carry
a setting over from elsewhere: SuperSpike's `1 / (k |u| + 1)^2` is `FastSigmoid(sharpness=k / 2)`; an arctan of slope `a` is
`Arctan(dampening=a / 2, sharpness=a / 2)`.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

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


@dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """A bell with negative flanks: far from the threshold, the gradient pushes the membrane potential the other way.

    With `N(u; m, s)` the density of the normal distribution of mean `m` and standard deviation `s`,

        g(u) = 1.15 N(u; 0, 1/2) - 0.15 N(u; 1/2, 3) - 0.15 N(u; -1/2, 3)
        f(u) = g(k u) / g(0),   k = 0.85 / g(0) = 0.968,

    in which `g(0)` makes the peak 1 and `k` the area, for that of `g` is 0.85. `f` is 0 at |u| = 1.31 and negative beyond.

    Source: Taylor, King and Harper, "Addressing the speed-accuracy simulation trade-off for adaptive spiking neurons",
    arXiv 2311.11390, 2023, which takes `g / 2`: that is `MultiGaussian.published()`.

    Example:
        >>> MultiGaussian().derivative(torch.tensor([0.0, 1.0, 2.0]))
        tensor([ 1.0000,  0.1179, -0.0360])
    """

    # f(u) = CENTRE exp(-2 (k u)^2) - FLANK (exp(-(k u - 1/2)^2 / 18) + exp(-(k u + 1/2)^2 / 18)), with k = SCALE
    PEAK: ClassVar[float] = (2.3 - 0.1 * math.exp(-1 / 72)) / math.sqrt(2 * math.pi)
    CENTRE: ClassVar[float] = 2.3 / math.sqrt(2 * math.pi) / PEAK
    FLANK: ClassVar[float] = 0.05 / math.sqrt(2 * math.pi) / PEAK
    SCALE: ClassVar[float] = 0.85 / PEAK

    @classmethod
    def published(cls) -> "MultiGaussian":
        """The function of the source, `g(u) / 2`: a dampening of `g(0) / 2 = 0.439` and a sharpness of `1 / k = 1.033`.

        Example:
            >>> MultiGaussian.published().derivative(torch.tensor([0.0, 1.0, 2.0]))
            tensor([ 0.4391,  0.0435, -0.0157])
        """
        return cls(dampening=cls.PEAK / 2, sharpness=1 / cls.SCALE)

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`g(k u) / g(0)`."""
        u = self.SCALE * u
        flanks = (-(u - 0.5).square() / 18).exp() + (-(u + 0.5).square() / 18).exp()
        return self.CENTRE * (-2 * u.square()).exp() - self.FLANK * flanks
