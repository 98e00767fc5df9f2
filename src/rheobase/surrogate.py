"""Surrogate gradients: what replaces the derivative of a spike.

A spike is a step of the membrane potential, and the derivative of a step is zero almost everywhere: no gradient would
reach any weight. In the backward pass the derivative is therefore replaced by a bump around the threshold,

    d spike / d u  :=  dampening * f(sharpness * u),        u = membrane - threshold.

All shapes `f` are normalized alike (Herranz-Celotti and Rouat, "Stabilizing Spiking Neuron Training", arXiv 2202.00282):
`f(0) = 1` and the area under `f` is 1. So `dampening` is the peak and `dampening / sharpness` the area, and two shapes with
the same two numbers differ in shape alone. (`MultiGaussian` is negative beside its bump, and its area counts that.)

| shape | f(u) | area of f^2 |
| --- | --- | --- |
| `Rectangular` | 1 where abs(2 u) < 1 | 1 |
| `Gaussian` | exp(-pi u^2) | 1 / sqrt(2) |
| `Triangular` | max(1 - abs(u), 0) | 2 / 3 |
| `Sigmoid` | sech(2 u)^2 | 2 / 3 |
| `Exponential` | exp(-2 abs(u)) | 1 / 2 |
| `Arctan` | 1 / (1 + (pi u)^2) | 1 / 2 |
| `FastSigmoid` | 1 / (1 + 2 abs(u))^2 | 1 / 3 |
| `QPseudoSpike` | (1 + 2 abs(u) / (q - 1))^-q | (q - 1) / (2 q - 1) |
| `MultiGaussian` | a bell with negative flanks | 0.89 |

The table goes from short tails to long ones. What a gradient's variance does on its way back through a layer depends on the
mean of f^2, hence the last column; `squared_integral` has its parts.

To carry a setting over from elsewhere: SuperSpike's `1 / (k |u| + 1)^2` is `FastSigmoid(sharpness=k / 2)`; an arctan of slope
`a` is `Arctan(dampening=a / 2, sharpness=a / 2)`; the derivative of `sigmoid(a u)` is `Sigmoid(dampening=a / 4, sharpness=a /
4)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, SupportsIndex

import numpy as np
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

    def __deepcopy__(self, memo: object) -> "Surrogate":
        return self  # it cannot change; and `DEFAULT` itself tells, also in a copy, that no surrogate was chosen

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return "DEFAULT" if self is DEFAULT else super().__reduce_ex__(protocol)

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The normalized bump `f(u)`: peak 1 at 0, area 1."""
        raise NotImplementedError

    def derivative(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`dampening * f(sharpness * u)` of the distance `u = membrane - threshold`, any shape."""
        return self.dampening * self.shape(self.sharpness * u)

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The integral of `f^2` from 0 to `u`, below 0 for negative `u`; dampening and sharpness do not enter.

        From it follows the mean of the squared derivative for any distribution of the membrane potential. A shape without
        a formula of its own is integrated numerically, to about 1e-6 where it has no jumps.

        Example:
            >>> FastSigmoid().squared_integral(torch.tensor([-1e9, 0.5, 1e9]))
            tensor([-0.1667,  0.1458,  0.1667])
        """
        # Gauss-Legendre on [u/2, u], [u/4, u/2], ...: the intervals shrink towards the peak, whatever its width.
        nodes, weights = (torch.from_numpy(numbers) for numbers in np.polynomial.legendre.leggauss(20))
        ends = torch.cat((0.5 ** torch.arange(_HALVINGS, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)))
        widths = ends[:-1] - ends[1:]
        points = (ends[1:, None] + widths[:, None] * (nodes + 1) / 2).flatten()
        shares = (widths[:, None] * weights / 2).flatten()
        at = u.double().clamp(-_FAR, _FAR).unsqueeze(-1)
        return (at * self.shape(at * points).square() * shares).sum(-1).to(u.dtype)

    def spike(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 where `u >= 0`, else 0, in the type of `u`; its gradient is `derivative(u)`.

        Example:
            >>> u = torch.tensor([-0.5, 0.0, 2.0], requires_grad=True)
            >>> FastSigmoid().spike(u)
            tensor([0., 1., 1.], grad_fn=<_SpikeBackward>)
        """
        return _Spike.apply(u, self)  # pyright: ignore[reportReturnType]


_FAR, _HALVINGS = 1e6, 30
"""Where `squared_integral` takes a shape for 0, and how often it halves that interval, down to 1e-3."""


class _Spike(torch.autograd.Function):
    """A step forwards, the surrogate's bump backwards."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, _surrogate: Surrogate) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

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

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(1 - (1 + 2 |u|)^-3) / 6`, with the sign of `u`."""
        return u.sign() * (1 - (1 + 2 * u.abs()) ** -3) / 6


DEFAULT = FastSigmoid()
"""The surrogate of neurons for which none was chosen."""


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

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`u / (2 (1 + (pi u)^2)) + atan(pi u) / (2 pi)`."""
        angle = (math.pi * u).atan()  # in these terms nothing overflows
        return ((2 * angle).sin() / 2 + angle) / (2 * math.pi)


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

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(1 - (1 - min(|u|, 1))^3) / 3`, with the sign of `u`."""
        return u.sign() * (1 - (1 - u.abs()).clamp(min=0) ** 3) / 3


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

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(1 - exp(-4 |u|)) / 4`, with the sign of `u`."""
        return -u.sign() * torch.expm1(-4 * u.abs()) / 4


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

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`erf(sqrt(2 pi) u) / (2 sqrt(2))`."""
        return torch.erf(math.sqrt(2 * math.pi) * u) / (2 * math.sqrt(2))


@dataclass(frozen=True)
class Rectangular(Surrogate):
    """A box, `f(u) = 1 where |2 u| < 1, else 0`: neurons near the threshold learn, all others do not.

    Source: Wu et al., "Spatio-temporal backpropagation for training high-performance spiking neural networks", 2018.

    Example:
        >>> Rectangular().derivative(torch.tensor([0.0, 0.4, 0.5]))
        tensor([1., 1., 0.])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """1 where `|2 u| < 1`, else 0."""
        return (1 + 0 * u).masked_fill(u.abs() >= 0.5, 0)  # what is not a number stays so

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`min(|u|, 1/2)`, with the sign of `u`."""
        return u.clamp(-0.5, 0.5)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """Derivative of the logistic function, `f(u) = 4 s(4 u) (1 - s(4 u)) = sech(2 u)^2`.

    Source: Zenke and Vogels, "The remarkable robustness of surrogate gradient learning", 2021, among others.

    Example:
        >>> Sigmoid().derivative(torch.tensor([0.0, 0.5, -0.5]))
        tensor([1.0000, 0.4200, 0.4200])
    """

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`sech(2 u)^2`."""
        tail = (-4 * u.abs()).exp()  # at most 1, so that nothing overflows
        return 4 * tail / (1 + tail).square()

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`tanh(2 u) / 2 - tanh(2 u)^3 / 6`."""
        slope = torch.tanh(2 * u)
        return slope / 2 - slope**3 / 6


@dataclass(frozen=True)
class QPseudoSpike(Surrogate):
    """A bump whose tail is a setting, `f(u) = (1 + 2 |u| / (q - 1))^-q`: the smaller the tail `q`, the heavier.

    `q = 2` is `FastSigmoid`; as `q` grows it becomes `Exponential`. Its power is costly, and the kernels are given its values
    instead of computing them.

    Args:
        dampening: the peak of the derivative, above 0.
        sharpness: how narrow the bump is, above 0.
        tail: `q`, above 1.

    Raises:
        ValueError: if `dampening` or `sharpness` is not above 0 and finite, or `tail` not above 1 and finite.

    Source: Herranz-Celotti and Rouat, arXiv 2202.00282; 1.56 is the default of its published program.

    Example:
        >>> QPseudoSpike(tail=2.0).derivative(torch.tensor([0.0, 0.5])), FastSigmoid().derivative(torch.tensor([0.0, 0.5]))
        (tensor([1.0000, 0.2500]), tensor([1.0000, 0.2500]))
    """

    tail: float = 1.56

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.tail) and self.tail > 1):
            raise ValueError(f"QPseudoSpike: tail must be above 1 and finite, got {self.tail}")

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(1 + 2 |u| / (q - 1))^-q`."""
        return (1 + 2 / (self.tail - 1) * u.abs()) ** -self.tail

    def squared_integral(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`(1 - (1 + 2 |u| / (q - 1))^(1 - 2 q)) (q - 1) / (4 q - 2)`, with the sign of `u`."""
        q = self.tail
        return u.sign() * (1 - (1 + 2 / (q - 1) * u.abs()) ** (1 - 2 * q)) * (q - 1) / (4 * q - 2)


@dataclass(frozen=True)
class Custom(Surrogate):
    """A bump of your own, given as a function.

    Settings compare with those of other shapes if the function is normalized as they are: peak 1 at 0, area 1.

    Args:
        dampening: what the function is multiplied with, above 0.
        sharpness: what its argument is multiplied by, above 0.
        function: `f`, of a tensor of any shape; computed beforehand and handed to the kernels. Two surrogates of the same
            function and numbers are equal.

    Raises:
        ValueError: if either number is not positive and finite.

    Example:
        >>> cosine = Custom(function=lambda u: torch.cos(math.pi / 2 * u.clamp(-1, 1)) ** 2)
        >>> cosine.derivative(torch.tensor([0.0, 0.5]))
        tensor([1.0000, 0.5000])
    """

    function: Callable[[Tensor], Tensor] = field(kw_only=True)

    def shape(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The function.

        Raises:
            ValueError: if it does not return one number for each of `u`.
        """
        y = self.function(u)
        if not isinstance(y, Tensor) or y.shape != u.shape:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise ValueError(f"Custom: function must return a number for each one of shape {tuple(u.shape)}, got {got}")
        return y


@dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """A bell with negative flanks: far from the threshold, the gradient pushes the membrane potential the other way.

    With `N(u; m, s)` the density of the normal distribution of mean `m` and standard deviation `s`,

        g(u) = 1.15 N(u; 0, 1/2) - 0.15 N(u; 1/2, 3) - 0.15 N(u; -1/2, 3)
        f(u) = g(k u) / g(0),   k = 0.85 / g(0) = 0.968,

    in which `g(0)` makes the peak 1 and `k` the area, for that of `g` is 0.85. `f` is 0 at `|u| = 1.31` and negative beyond.

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
